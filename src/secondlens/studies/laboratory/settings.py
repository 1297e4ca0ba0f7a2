"""What a training run is given, and its checkpoints: an interrupted run goes on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secondlens.disk.resumable import Resumable
from secondlens.errors import WorldError, closest

STATE = "state.safetensors"


@dataclass(frozen=True)
class Settings:
    """How to train. scenes, easy_scenes: of the two sets. dense: weight of the auxiliary loss. least_easy,
    least_nouns: shares of easy scenes and of captions of the noun alone that stay after the curriculum. shift: scenes
    are moved by up to so many pixels. coarse: share of scenes shown without shapes. lazy: share of scenes whose subject
    is drawn as another noun, while cues and captions stay: captions written from the surroundings.
    anew: share of images whose class token starts anew before layer `anew_layer`.
    kind: of the scenes, as the sampler names it. frozen_text: keep the text tower as it is. stop: end after so many
    steps, as if interrupted there; 0: after all.
    """

    scenes: int = 240_000
    easy_scenes: int = 80_000
    steps: int = 2_400
    batch: int = 1024
    rate: float = 1e-3
    decay: float = 0.1
    warmup: int = 200
    dense: float = 0.5
    curriculum: float = 0.33
    least_easy: float = 0.05
    least_nouns: float = 0.2
    shift: int = 3
    coarse: float = 0.3
    lazy: float = 0.0
    anew: float = 0.5
    anew_layer: int = 4
    width: int = 128
    layers: int = 6
    heads: int = 4
    embed: int = 128
    seed: int = 0
    kind: str = "biased"
    frozen_text: bool = False
    stop: int = 0

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Of a JSON object; what it does not name keeps its default. Raises `WorldError` for anything else."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WorldError(f"cannot read settings from {path}: {error}") from error
        known: dict[str, type] = {name: type(value) for name, value in asdict(cls()).items()}
        if not isinstance(found, dict):
            raise WorldError(f"expected a JSON object of settings in {path}, got {found!r}")
        for name, value in found.items():
            if name not in known:
                raise WorldError(f"{path} has an unknown setting {name!r}{closest(name, known)}")
            wanted = known[name]
            fits = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
            if not fits or isinstance(value, bool) != (wanted is bool):
                raise WorldError(f"{path}: expected {_WANTED[wanted]} for {name!r}, got {value!r}")
        return cls(**{name: known[name](value) for name, value in found.items()})


_WANTED: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def write_checkpoint(
    kept: Resumable, model: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Keep weights, moments and the step in the place of those before."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    state["step"] = torch.tensor(step)
    state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    kept.keep(STATE, lambda path: save_file(state, path))


def read_checkpoint(kept: Resumable, model: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Take up the state of an interrupted run; the step to go on from."""
    if STATE not in kept:
        return 0
    state = load_file(kept[STATE])
    model.load_state_dict({n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")})
    head.load_state_dict({n.removeprefix("head."): t for n, t in state.items() if n.startswith("head.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimizer."):
            _, number, what = name.split(".")
            moments.setdefault(int(number), {})[what] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["step"])
