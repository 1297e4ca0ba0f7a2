"""The attack: images that show one class and are taken for another, made from an audit's cues."""

from secondlens.applications.attack.cues import CueSources
from secondlens.applications.attack.folder import AttackFolder, Cell
from secondlens.applications.attack.judges import open_judge
from secondlens.applications.attack.pictures import open_image_maker
from secondlens.applications.attack.run import AttackPlan, run_attack
from secondlens.applications.attack.settings import METHODS, PRESETS, AttackSettings, make_settings

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
