"""The steps of the demo, in order. A step whose commands are not there is left out."""

from secondlens.cli.demo.settings import Step
from secondlens.cli.demo.story.applications import CONCEPTS, EXPLANATION, MEASURED, SEGMENTATION
from secondlens.cli.demo.story.audit import ATTACK, AUDIT
from secondlens.cli.demo.story.beginning import MODEL, SCENES
from secondlens.cli.demo.story.end import ATLAS, LABORATORY
from secondlens.cli.demo.story.neurons import NEURONS, SURVEY, WORDS
from secondlens.cli.demo.story.studies import ABLATION

STORY: tuple[Step, ...] = (
    MODEL,
    SCENES,
    SURVEY,
    WORDS,
    NEURONS,
    ABLATION,
    SEGMENTATION,
    MEASURED,
    CONCEPTS,
    EXPLANATION,
    AUDIT,
    ATTACK,
    LABORATORY,
    ATLAS,
)

__all__ = ["STORY"]
