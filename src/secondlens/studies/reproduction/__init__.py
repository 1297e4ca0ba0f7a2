"""The paper's tables and figures as presets, on its own data or on any other: survey, study, report."""

from secondlens.studies.reproduction.presets import Preset, load_preset, preset_names
from secondlens.studies.reproduction.run import Outcome, reproduce
from secondlens.studies.reproduction.settings import Options

__all__ = ["Options", "Outcome", "Preset", "load_preset", "preset_names", "reproduce"]
