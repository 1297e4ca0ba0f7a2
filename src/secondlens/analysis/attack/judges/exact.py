"""The embedded world's own judge: it reads the scene that was drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondlens.analysis.attack.judges.base import Judgement
from secondlens.errors import AuditError
from secondlens.world import Scene, render
from secondlens.world.vocabulary import MEANINGS, NOUNS

VISIBLE = 20
"""Pixels of a thing at least, in a picture of 64 a side, for it to be seen."""


class ExactJudge:
    """A scene shows a noun where enough pixels of one are visible."""

    name = "exact"
    settings: dict[str, object] = {"visible": VISIBLE}  # noqa: RUF012

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`; raises `AuditError` for a picture that the renderer did not draw or a class it cannot draw."""
        drawn = line["metadata"].get("scene")
        if drawn is None:
            raise AuditError(f"the exact judge reads scenes; {line['name']} was not drawn by the embedded world")
        scene = Scene.from_json(drawn)
        masks = render(scene).masks
        seen = {noun for noun, mask in zip(scene.nouns, masks, strict=True) if mask.sum() >= VISIBLE}
        return Judgement(_noun(line["source_class"]) in seen, _noun(line["target_class"]) in seen)


def _noun(name: str) -> str:
    kind, value = MEANINGS.get(name.lower(), ("", ""))
    if kind != "noun":
        raise AuditError(f"the embedded world has no {name!r}; it has: {', '.join(NOUNS)}")
    return value
