"""Built-in pools, by name."""

from collections.abc import Callable

from secondlens.data.texts import TextList, imagenet_classes, wordnet_nouns, words
from secondlens.errors import TextError
from secondlens.lens.model import LensModel
from secondlens.world.phrases import phrases, single_phrases


def labels(model: LensModel) -> TextList:
    """A classifier's own labels; raises `TextError` for a model without any."""
    if model.classifier is None:
        raise TextError(
            f"{model.reference} is no classifier and has no labels; give a pool of words such as words-10k, or a file"
        )
    return TextList("labels", list(model.classifier.labels))


BUILTIN: dict[str, Callable[[LensModel], TextList]] = {
    "words-10k": lambda model: TextList("words-10k", words(10_000)),
    "words-30k": lambda model: TextList("words-30k", words(30_000)),
    "wordnet-nouns": lambda model: TextList("wordnet-nouns", wordnet_nouns()),
    "imagenet-classes": lambda model: imagenet_classes(),
    "labels": labels,
    "world": lambda model: TextList("world", phrases()),
    "world-single": lambda model: TextList("world-single", single_phrases()),
}
"""Name of a built-in list to what makes it."""
