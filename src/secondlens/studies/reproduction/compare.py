"""Ours beside the paper's."""

from dataclasses import asdict, dataclass
from typing import Any

from secondlens.studies.reproduction.presets import Expectation

INSIDE, OUTSIDE, OTHER, NOTHING = "inside", "outside", "other setting", "not measured"


@dataclass(frozen=True)
class Comparison:
    """One expectation met or not. paper: what was expected. ours: what was found. state: inside, outside; "other
    setting" for the paper's digits where the model, the images or the settings are not the paper's; "not measured".
    """

    key: str
    text: str
    paper: str
    ours: str
    state: str
    note: str

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def compare(
    expected: tuple[Expectation, ...], values: dict[str, float | list[str] | None], own: bool
) -> list[Comparison]:
    """own: whether everything was as in the paper; else digits and words are shown and not judged."""
    return [_compare(one, values.get(one.key), own) for one in expected]


def _compare(expected: Expectation, found: float | list[str] | None, own: bool) -> Comparison:
    def state(inside: bool) -> str:
        if expected.printed and not own:
            return OTHER
        return INSIDE if inside else OUTSIDE

    if expected.words is not None:
        paper = " ".join(expected.words)
        if not isinstance(found, list):
            return Comparison(expected.key, expected.text, paper, "", NOTHING, expected.note)
        hits = [word for word in expected.words if word in found]
        ours = f"{' '.join(found)} ({len(hits)} of {len(expected.words)})"
        return Comparison(
            expected.key, expected.text, paper, ours, state(_within(float(len(hits)), expected)), expected.note
        )
    if expected.value is not None:
        assert expected.tolerance is not None
        paper = f"{expected.value:g} +- {expected.tolerance:g}"
    elif expected.low is not None and expected.high is not None:
        paper = f"{expected.low:g} to {expected.high:g}"
    else:
        paper = f"at least {expected.low:g}" if expected.low is not None else f"at most {expected.high:g}"
    if not isinstance(found, int | float):
        return Comparison(expected.key, expected.text, paper, "", NOTHING, expected.note)
    if expected.value is not None and expected.tolerance is not None:
        # The digits are decimal, floats are not.
        inside = abs(found - expected.value) <= expected.tolerance + 1e-9
    else:
        inside = _within(found, expected)
    ours = f"{found:.2f}" if abs(found) < 5 else f"{found:.1f}"
    return Comparison(expected.key, expected.text, paper, ours, state(inside), expected.note)


def _within(found: float, expected: Expectation) -> bool:
    return (expected.low is None or found >= expected.low) and (expected.high is None or found <= expected.high)
