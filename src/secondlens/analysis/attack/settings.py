"""What an attack is made with: everything that changes its results, and presets of it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secondlens.analysis.audit.similarity import SYNONYM
from secondlens.errors import AuditError, closest

METHODS: dict[str, str] = {
    "second-order": "phrases of the neurons that write most along the pair's difference (the paper's method)",
    "effect": "the same, each neuron weighted by how strongly it acts",
    "images": "phrases whose content goes with the pair's difference within classes, over the survey's images",
    "random": "phrases of as many random neurons",
    "indirect": "phrases of the directions of indirect effects",
    "similar-words": "the words nearest to the pair's difference, no neurons",
    "none": "no phrases at all: how often the model errs on such images anyway",
}
"""Where cues come from."""

OURS = ("second-order", "effect", "images")
"""Methods that are no baselines."""


DEFAULT_METHODS = ("second-order", "images", "random", "indirect", "similar-words", "none")


class AttackSettings(BaseModel):
    """Numbers and choices of an attack; an interrupted one goes on only with the same.

    cues: phrases a pair. descriptions: asked for from the language model. chosen: of them, at random. images: of each.
    repeats: of all of it. neurons: chosen a pair. synonym: similarity from which a phrase is left out. candidates:
    layers to take neurons from, None for all that are described. seed: of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cues: int = Field(25, ge=1)
    descriptions: int = Field(50, ge=1)
    chosen: int = Field(10, ge=1)
    images: int = Field(10, ge=1)
    repeats: int = Field(3, ge=1)
    neurons: int = Field(100, ge=1)
    synonym: float = Field(SYNONYM, gt=0, le=1.01)
    layers: tuple[int, ...] | None = None
    seed: int = Field(0, ge=0)

    @property
    def pictures(self) -> int:
        """Pictures of one method, pair and repeat."""
        return self.chosen * self.images


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {"descriptions": 20, "chosen": 5, "images": 4, "repeats": 2},
    "smallest": {"cues": 10, "descriptions": 4, "chosen": 2, "images": 2, "repeats": 1},
}
"""Names of settings; `paper` is the published setting: 25 cues, 50 descriptions, 10 x 10 images, 3 repeats."""


def make_settings(preset: str = "paper", **changes: Any) -> AttackSettings:
    """The settings of a preset with changes; None leaves the preset's. Raises `AuditError` for what is out of range."""
    if preset not in PRESETS:
        raise AuditError(f"unknown preset {preset!r}{closest(preset, PRESETS)}")
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        found = AttackSettings(**{**PRESETS[preset], **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise AuditError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}") from error
    if found.chosen > found.descriptions:
        raise AuditError(f"cannot choose {found.chosen} of {found.descriptions} descriptions; ask for more")
    return found


def check_methods(methods: tuple[str, ...]) -> None:
    """Raise for an unknown method, or none."""
    if not methods:
        raise AuditError(f"expected at least one method of: {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise AuditError(f"unknown method {method!r}{closest(method, METHODS)}")
