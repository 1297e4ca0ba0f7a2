"""From a reference to a judge.

exact              reads the embedded world's scenes
openai:MODEL       a vision-language model behind an OpenAI-compatible endpoint
hf:NAME            a vision-language model of `transformers` from the Hub or a folder
model:REFERENCE    a second, different model, e.g. model:openclip:ViT-B-32/laion2b_s34b_b79k
none               nobody: every picture counts as valid

A person judges on a page of their own: `secondlens attack judge`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secondlens.analysis.attack.judges.base import Judge, Judgement
from secondlens.errors import AuditError, closest
from secondlens.lens.classifier import TEMPLATES
from secondlens.lens.model import LensModel

KINDS = ("exact", "openai", "hf", "model", "none")


class NoJudge:
    """Takes every picture for valid."""

    name = "none"
    settings: dict[str, object] = {}  # noqa: RUF012

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """See `Judge`."""
        return Judgement(True, False, "nobody looked")


def open_judge(
    reference: str, victim: LensModel, classes: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Judge:
    """The judge of a reference. victim: the attacked model, which cannot judge itself. classes: for a second model.

    Raises `AuditError` for another reference or the victim as its own judge, and what the back ends raise.
    """
    kind, _, rest = reference.partition(":")
    if kind == "exact" and not rest:
        from secondlens.analysis.attack.judges.exact import ExactJudge

        return ExactJudge()
    if kind == "none" and not rest:
        return NoJudge()
    if kind in ("openai", "hf") and rest:
        from secondlens.analysis.attack.judges.vision import open_vision_judge

        return open_vision_judge(kind, rest, str(victim.device))
    if kind == "model" and rest:
        from secondlens.analysis.attack.judges.second import SecondModelJudge
        from secondlens.lens import load_model

        loaded = load_model(rest, device=str(victim.device))
        if loaded.weights_hash == victim.weights_hash:
            raise AuditError(f"{rest} is the attacked model itself; a judge has to be another")
        return SecondModelJudge(loaded, classes, templates)
    raise AuditError(
        f"expected a judge such as 'exact', 'openai:MODEL', 'hf:NAME', 'model:REFERENCE' or 'none', got {reference!r}"
        f"{closest(kind, KINDS)}"
    )
