"""`cluster_describe`: texts encoded, and directions decomposed over them, by whichever worker is free.

Both are cut into the parts in which one machine does them (`lens.texts.encode_part`, `descriptions.parts`), so the
figures are the same; what follows is the code of the plain description. Finished parts are kept: an interrupted run
goes on, here or on one machine.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secondlens.atlas.store import Atlas
from secondlens.descriptions.describe import describe
from secondlens.descriptions.parts import Part, decompose_part
from secondlens.descriptions.pools import open_pool
from secondlens.descriptions.store import Descriptions, DescriptionSettings
from secondlens.lens.load import load_model
from secondlens.lens.texts import encode_part
from secondlens.progress import Progress, silent
from secondlens.surveys.cluster.costs import Costs, NodeCost
from secondlens.surveys.cluster.crew import Crew, Failure, Piece, connected, guarded, share_out
from secondlens.surveys.cluster.report import check_reports
from secondlens.surveys.cluster.worker import Arrays, Setup, Worker, to_arrays, to_tensors


def cluster_describe(
    atlas: Atlas,
    pool: str | Path | Sequence[str],
    nonzero: int | None = None,
    *,
    model: str | None = None,
    device: str = "cpu",
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Descriptions, list[NodeCost]]:
    """`open_pool` and `describe` on a Ray cluster; the descriptions, and what each node did for them.

    pool: anything `open_pool` takes. nonzero: default 128, or the whole pool. model: its reference, by default the
    atlas's. address, workers, threads: as in `cluster_survey`. options: those of `describe`.

    Raises what those two raise, `MissingExtra` without Ray, and `ClusterError` naming a node that cannot do its part.
    """
    reference = model or atlas.manifest.model.reference
    loaded = load_model(reference, device=device if device != "cuda" or torch.cuda.is_available() else "cpu")
    atlas.require_model(loaded)
    note = progress or silent
    with connected(address) as ray:
        share = share_out(ray, workers, threads, None, device == "cuda")
        setup = Setup(reference, device, "float32", 1, share.threads, 0, str(Path.cwd()))
        with Crew(ray, DescribeWorker, (setup,), share) as crew:
            reports = crew.start()
            check_reports(reports, loaded.weights_hash, 0)
            costs = Costs(report.node for report in reports)

            def encode(parts: list[list[str]], templates: Sequence[str], truncate: bool) -> Iterator[Tensor]:
                found: list[Tensor | None] = [None] * len(parts)
                for piece in crew.map("encode", parts, (tuple(templates), truncate)):
                    if piece is not None:
                        costs.add(piece.node, piece.items, piece.seconds)
                        found[piece.number] = to_tensors(piece.content)["embeddings"]
                return iter([part for part in found if part is not None])

            texts = open_pool(
                pool, loaded, progress=lambda done, total: note("encoding texts", done, total), elsewhere=encode
            )

            def decompose(settings: DescriptionSettings, parts: list[Part]) -> Iterable[tuple[Part, dict[str, Tensor]]]:
                arrays: Arrays = {f"layer {layer}": atlas.layer(layer).directions.numpy() for layer in atlas.layers}
                arrays["texts"] = texts.embeddings.numpy()
                done, total = 0, sum(part.signals for part in parts)
                for piece in crew.map("decompose", parts, (arrays, settings)):
                    if piece is not None:
                        costs.add(piece.node, piece.items, piece.seconds)
                        yield parts[piece.number], to_tensors(piece.content)
                        done += piece.items
                        note("decomposing", done, total)

            found = describe(atlas, texts, nonzero, device=device, progress=progress, elsewhere=decompose, **options)
            return found, costs.nodes()


class DescribeWorker(Worker):
    """An actor that encodes texts and decomposes directions."""

    def encode(self, number: int, texts: list[str], how: tuple[tuple[str, ...], bool], tally: Any) -> Piece | Failure:
        """The embeddings of one part of a pool. how: templates, and whether to truncate."""
        return self._timed(number, len(texts), lambda: {"embeddings": encode_part(self.model, texts, how[0], how[1])})

    def decompose(
        self, number: int, part: Part, shared: tuple[Arrays, DescriptionSettings], tally: Any
    ) -> Piece | Failure:
        """What `decompose_part` makes of a part. shared: directions by layer and the texts' embeddings; settings."""
        arrays, settings = shared

        def work() -> dict[str, Tensor]:
            tensors = to_tensors({name: np.asarray(arrays[name]) for name in (f"layer {part.layer}", "texts")})
            directions, texts = tensors.values()
            return decompose_part(part, directions, texts, settings, self.setup.device)

        return self._timed(number, part.signals, work)

    def _timed(self, number: int, items: int, work: Any) -> Piece | Failure:
        started = time.monotonic()
        found = guarded(self.name, work)
        if isinstance(found, Failure):
            return found
        return Piece(number, self.name, items, time.monotonic() - started, to_arrays(found))
