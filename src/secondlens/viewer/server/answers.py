"""The shapes of the API's answers: they are its OpenAPI description, and what is sent is checked against them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str | list[dict[str, Any]]


class Status(BaseModel):
    """What this server can do. concepts: with a description whose pool is in the cache."""

    secondlens: str
    title: str
    layers: list[int]
    neurons: int
    model: bool
    texts: bool
    heat: bool
    concepts: bool
    waterfall: bool
    max_bytes: int
    max_pixels: int


class Card(BaseModel):
    """Everything known of a neuron, as `secondlens neurons show --json` prints it."""

    model_config = ConfigDict(extra="allow")

    layer: int
    neuron: int
    explained_variance: float
    texts: list[dict[str, Any]]
    top_images: list[dict[str, Any]]


class Scored(BaseModel):
    """A neuron and its direction's product with a text."""

    layer: int
    neuron: int
    score: float


class Found(BaseModel):
    """Neurons by a text."""

    text: str
    neurons: list[Scored]


class Prediction(BaseModel):
    """A label or text and its value."""

    text: str
    value: float


class Active(BaseModel):
    """A neuron that acts on a picture. norm: of its effect around the survey's mean; threshold: the norm's percentile
    over the survey; projection: the effect along the neuron's direction.
    """

    layer: int
    neuron: int
    norm: float
    threshold: float
    projection: float


class ImageAnswer(BaseModel):
    """A picture. measure: "probability" of the model's own head, "cosine" with a pool's texts, or None."""

    measure: Literal["probability", "cosine"] | None
    predictions: list[Prediction]
    active: int
    neurons: list[Active]


class HeatAnswer(BaseModel):
    """Contribution of each patch, row by row, to the cosine with a text through a layer's neurons."""

    text: str
    layer: int
    cosine: float
    through_layer: float
    elsewhere: float
    rows: int
    columns: int
    framing: Literal["centre", "whole"]
    values: list[float]


class Term(BaseModel):
    """A neuron's part in a concept."""

    layer: int
    neuron: int
    contribution: float


class ConceptRow(BaseModel):
    """A text that active neurons speak of."""

    text: str
    score: float
    neurons: list[Term]


class ConceptsAnswer(BaseModel):
    """Concepts of a picture."""

    concepts: list[ConceptRow]


class Part(BaseModel):
    """One source of a score."""

    label: str
    kind: str
    value: float


class WaterfallAnswer(BaseModel):
    """A score and its parts, which sum to it."""

    score: float
    parts: list[Part]
