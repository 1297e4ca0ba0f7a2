"""Surveys: plan, streaming passes, checkpoints."""

from secondlens.surveys.plan import SurveyPlan, make_plan, parse_memory
from secondlens.surveys.run import survey

__all__ = ["SurveyPlan", "make_plan", "parse_memory", "survey"]
