"""The attack: images that show one class and are taken for another, made from an audit's cues."""

from secondlens.analysis.attack.cues import CueSources
from secondlens.analysis.attack.folder import AttackFolder, Cell
from secondlens.analysis.attack.image_makers import open_image_maker
from secondlens.analysis.attack.judges import open_judge
from secondlens.analysis.attack.run import AttackPlan, run_attack
from secondlens.analysis.attack.settings import METHODS, PRESETS, AttackSettings, make_settings

__all__ = [
    "METHODS",
    "PRESETS",
    "AttackFolder",
    "AttackPlan",
    "AttackSettings",
    "Cell",
    "CueSources",
    "make_settings",
    "open_image_maker",
    "open_judge",
    "run_attack",
]
