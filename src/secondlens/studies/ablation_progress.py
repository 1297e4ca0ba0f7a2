"""What an ablation study has found so far, and its checkpoints: an interrupted study goes on and ends the same.

`progress.json` is written last and names the state file that belongs to it.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from secondlens.data.loader import Skipped
from secondlens.disk.files import make_folder, write_tensors, write_text
from secondlens.studies.ablator import LayerAblator
from secondlens.surveys.checkpoint import INTERVAL, require_same

NOTE = "progress.json"


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
        self.folder = folder
        self.settings = settings
        self._written = time.monotonic()

    def load(self, groups: list[list[int]]) -> Collected:
        """What an interrupted study had found, or nothing yet; `SurveyError` where its settings were others."""
        if self.folder is None or not (self.folder / NOTE).is_file():
            return Collected(groups)
        note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
        require_same(note["settings"], self.settings, f"{self.folder} holds an unfinished study of other settings")
        found = Collected(note["groups"], group=note["group"], batch=note["batch"])
        found.skipped = [Skipped(position, reason) for position, reason in note["skipped"]]
        for name, tensor in load_file(self.folder / note["state"]).items():
            kind, _, rest = name.partition("/")
            if kind == "predicted":
                layer, _, variant = rest.partition("/")
                found.predicted.setdefault(int(layer), {})[variant] = [tensor]
            elif kind == "large":
                found.large[int(rest)] = tensor
            else:
                getattr(found, kind).append(tensor)
        # The file has them by name; the order of variants is that of the study.
        for layer, variants in note["variants"].items():
            mine = found.predicted[int(layer)]
            found.predicted[int(layer)] = {variant: mine[variant] for variant in variants}
        return found

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.folder is not None and time.monotonic() - self._written > INTERVAL

    def save(self, found: Collected) -> None:
        """Write everything; the note last."""
        if self.folder is None or not found.positions:
            return
        make_folder(self.folder)
        state = {"positions": torch.cat(found.positions), "surveyed": torch.cat(found.surveyed)}
        for layer, variants in found.predicted.items():
            state |= {f"predicted/{layer}/{name}": torch.cat(parts) for name, parts in variants.items()}
        state |= {f"large/{layer}": counts for layer, counts in found.large.items()}
        name = f"progress-{found.group:03d}-{found.batch:08d}.safetensors"
        write_tensors(self.folder / name, state)
        note = {
            "settings": self.settings,
            "groups": found.groups,
            "group": found.group,
            "batch": found.batch,
            "skipped": [(gap.position, gap.reason) for gap in found.skipped],
            "variants": {layer: list(variants) for layer, variants in found.predicted.items()},
            "state": name,
        }
        write_text(self.folder / NOTE, json.dumps(note))
        self._remove(keep=name)
        self._written = time.monotonic()

    def done(self) -> None:
        """The study is complete and written."""
        if self.folder is not None:
            (self.folder / NOTE).unlink(missing_ok=True)
            self._remove(keep="")

    def _remove(self, keep: str) -> None:
        assert self.folder is not None
        for path in self.folder.glob("progress-*.safetensors"):
            if path.name != keep:
                path.unlink()
