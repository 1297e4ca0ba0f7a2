"""Judges of pictures: one protocol, several back ends."""

from secondlens.applications.attack.judges.base import Judge, Judgement
from secondlens.applications.attack.judges.opening import open_judge

__all__ = ["Judge", "Judgement", "open_judge"]
