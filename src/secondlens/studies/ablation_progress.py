"""What an ablation study has found so far, and its checkpoints: an interrupted study goes on and ends the same."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from secondlens.data.loader import Skipped
from secondlens.disk.resumable import Resumable
from secondlens.errors import SurveyError
from secondlens.studies.ablator import LayerAblator
from secondlens.surveys.checkpoint import INTERVAL

STATE = "state.safetensors"


@dataclass
class Collected:
    """Positions and whether they were surveyed, from the first pass; predicted classes by layer and variant, and
    numbers of large effects by layer. groups: layers by pass, which depend on the memory that was free. group, batch:
    the pass, and its next batch.
    """

    groups: list[list[int]]
    positions: list[Tensor] = field(default_factory=list)
    surveyed: list[Tensor] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    predicted: dict[int, dict[str, list[Tensor]]] = field(default_factory=dict)
    large: dict[int, Tensor] = field(default_factory=dict)
    group: int = 0
    batch: int = 0

    def note_large(self, ablators: Sequence[LayerAblator]) -> None:
        """Take over the ablators' counts."""
        for ablator in ablators:
            self.large[ablator.layer] = ablator.large.cpu()


class AblationCheckpoints:
    """Keeps `Collected` in a folder; without one, nowhere. settings: what must be the same to go on."""

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self._kept = None if folder is None else Resumable(folder / "progress", settings, SurveyError)
        self._written = time.monotonic()

    def load(self, groups: list[list[int]]) -> Collected:
        """What an interrupted study had found, or nothing yet."""
        if self._kept is None or STATE not in self._kept:
            return Collected(groups)
        with safe_open(self._kept[STATE], "pt") as file:
            note = json.loads(file.metadata()["note"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = Collected(note["groups"], group=note["group"], batch=note["batch"])
        found.skipped = [Skipped(position, reason) for position, reason in note["skipped"]]
        found.positions, found.surveyed = [state["positions"]], [state["surveyed"]]
        # The file has them by name; the order of variants is that of the study.
        for layer, variants in note["variants"].items():
            found.predicted[int(layer)] = {variant: [state[f"predicted/{layer}/{variant}"]] for variant in variants}
        found.large = {layer: state[f"large/{layer}"] for layer in note["large"]}
        return found

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._kept is not None and time.monotonic() - self._written > INTERVAL

    def save(self, found: Collected) -> None:
        """Write everything."""
        if self._kept is None or not found.positions:
            return
        state = {"positions": torch.cat(found.positions), "surveyed": torch.cat(found.surveyed)}
        for layer, variants in found.predicted.items():
            state |= {f"predicted/{layer}/{name}": torch.cat(parts) for name, parts in variants.items()}
        state |= {f"large/{layer}": counts for layer, counts in found.large.items()}
        note = {
            "groups": found.groups,
            "group": found.group,
            "batch": found.batch,
            "skipped": [(gap.position, gap.reason) for gap in found.skipped],
            "variants": {layer: list(variants) for layer, variants in found.predicted.items()},
            "large": list(found.large),
        }
        self._kept.keep(STATE, lambda path: save_file(state, path, {"note": json.dumps(note)}))
        self._written = time.monotonic()

    @staticmethod
    def done(folder: Path) -> None:
        """Remove the checkpoints: the study is complete and written."""
        shutil.rmtree(folder / "progress", ignore_errors=True)
