"""Surveys: plan, streaming passes, checkpoints."""

from secondlens.survey.plan import SurveyPlan, make_plan, parse_memory
from secondlens.survey.run import survey

__all__ = ["SurveyPlan", "make_plan", "parse_memory", "survey"]
