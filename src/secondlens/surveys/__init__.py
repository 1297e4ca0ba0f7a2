"""Surveys: plan, streaming passes, checkpoints, parts and their merge."""

from secondlens.surveys.job import Part
from secondlens.surveys.merge import merge_parts
from secondlens.surveys.plan import SurveyPlan, make_plan, parse_memory
from secondlens.surveys.run import survey, survey_shard

__all__ = ["Part", "SurveyPlan", "make_plan", "merge_parts", "parse_memory", "survey", "survey_shard"]
