"""What a worker says of itself when it starts, and whether such workers may work together."""

import hashlib
import os
import platform
import socket
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch

import secondlens
from secondlens.errors import ClusterError
from secondlens.lens.capture import capture
from secondlens.lens.model import LensModel
from secondlens.lens.paths import coefficients, path_weights
from secondlens.surveys.plan import free_memory

LIBRARIES = ("torch", "transformers", "pillow", "numpy")
"""Other versions of these may give other numbers."""


@dataclass(frozen=True)
class Report:
    """node: name and address. process: its number there. versions: of what changes numbers. weights: the model's hash.
    memory: bytes that are free there, on the GPU where the worker has one. rounding: hash of what the model makes of
    fixed random pixels.
    """

    node: str
    process: int
    versions: dict[str, str]
    weights: str
    device: str
    memory: int
    rounding: str


def versions() -> dict[str, str]:
    """Of Python, secondlens and `LIBRARIES`."""
    found = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "secondlens": secondlens.__version__, **found}


def report(node: str, model: LensModel, batch_size: int) -> Report:
    """Of this process."""
    return Report(
        node=node,
        process=os.getpid(),
        versions=versions(),
        weights=model.weights_hash,
        device=torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu",
        memory=free_memory(model.device),
        rounding=rounding(model, batch_size),
    )


def rounding(model: LensModel, batch_size: int) -> str:
    """SHA-256 over embeddings and coefficients of a batch of random pixels, and of half of one.

    Kernels differ between kinds of CPU and GPU and between numbers of threads, and with them the last bits. Where this
    hash is the same, so most likely are they.
    """
    height, width = model.tower.image_size
    pixels = torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))
    layer = model.tower.lens_layers[0]
    digest = hashlib.sha256()
    for some in (pixels, pixels[: (batch_size + 1) // 2]):
        with torch.no_grad():
            trace = capture(model.tower, some.to(model.device), [layer])
            found = coefficients(path_weights(trace, model.tower, layer), trace.activations[layer])
        for tensor in (trace.embeddings, found):
            digest.update(tensor.float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def check_reports(reports: Sequence[Report], weights: str, needed: int) -> None:
    """Raise `ClusterError` naming the node where a worker has other versions or another model than this process, or
    where its node has too little memory for its workers; warn where nodes round differently.

    weights: hash of this process's model. needed: bytes a worker.
    """
    mine = versions()
    for found in reports:
        for name, value in mine.items():
            if found.versions.get(name) != value:
                raise ClusterError(
                    f"node {found.node} has {name} {found.versions.get(name)}, this machine has {value}: mixed "
                    "versions may give mixed numbers; install the same on every node"
                )
        if found.weights != weights:
            raise ClusterError(
                f"node {found.node} loaded a model with other weights (SHA-256 {found.weights[:12]}) than this machine "
                f"({weights[:12]}); put the same model under the same reference on every node"
            )
    shared = Counter(found.node for found in reports if found.device == "cpu")
    for found in reports:
        workers = shared[found.node] if found.device == "cpu" else 1
        if workers * needed > found.memory:
            what = "memory" if found.device == "cpu" else f"memory on its {found.device}"
            raise ClusterError(
                f"node {found.node} has {found.memory / 2**30:.1f} GiB of free {what}, {workers} "
                f"worker{'s need' if workers > 1 else ' needs'} about {workers * needed / 2**30:.1f} GiB; give a "
                "smaller --memory, --top or --batch-size, or fewer --workers"
            )
    common = Counter(found.rounding for found in reports).most_common(1)[0][0]
    others = sorted({found.node for found in reports if found.rounding != common})
    if others:
        warnings.warn(
            f"nodes round differently, as other kinds of CPU or GPU do (unlike most: {', '.join(others)}): the atlas "
            "will be right to that rounding, but not the same bit by bit in every run",
            stacklevel=2,
        )


def node_name(address: str) -> str:
    """This machine, by name and address."""
    return f"{socket.gethostname()} ({address})"
