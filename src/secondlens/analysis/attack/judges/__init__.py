"""Judges of pictures: one protocol, several back ends."""

from secondlens.analysis.attack.judges.base import Judge, Judgement
from secondlens.analysis.attack.judges.opening import open_judge

__all__ = ["Judge", "Judgement", "open_judge"]
