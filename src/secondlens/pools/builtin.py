"""Lists of texts that need no file, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from secondlens.errors import MissingExtra, TextError
from secondlens.models.model import LensModel
from secondlens.world.phrases import phrases, single_phrases

ASIS = ("{}",)
"""The templates of a list whose texts are encoded as they are."""


@dataclass(frozen=True)
class TextList:
    """Texts and the prompt templates that each is put into; their embeddings are averaged."""

    name: str
    texts: list[str]
    templates: tuple[str, ...] = ASIS


def words(count: int) -> list[str]:
    """The most common English words (wordfreq's combined lists), without numbers, symbols and single letters."""
    try:
        from wordfreq import iter_wordlist
    except ImportError as error:
        raise MissingExtra("wordfreq", "words", "a pool of common words") from error
    found = []
    for word in iter_wordlist("en"):
        # wordfreq counts initials, emoji and digits too; two letters or more, with an apostrophe or hyphen inside.
        if len(word) > 1 and word.replace("'", "").replace("’", "").replace("-", "").isalpha():
            found.append(word)
            if len(found) == count:
                return found
    raise TextError(f"wordfreq's list has {len(found)} words, fewer than {count}")


def wordnet_nouns() -> list[str]:
    """All nouns of WordNet as NLTK reads them, underscores as spaces, names with capitals left out."""
    try:
        from nltk.corpus import wordnet
    except ImportError as error:
        raise MissingExtra("nltk", "wordnet", "the pool of WordNet's nouns") from error
    try:
        lemmas = wordnet.all_lemma_names(pos="n")
        return sorted({lemma.replace("_", " ") for lemma in lemmas if lemma.islower() and lemma[0].isalpha()})
    except LookupError as error:
        raise TextError("WordNet's data is not here; fetch it with: python -m nltk.downloader wordnet") from error


def imagenet_classes() -> TextList:
    """The 1,000 ImageNet class names with OpenAI's 80 templates, as open_clip carries them."""
    try:
        from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
    except ImportError as error:
        raise MissingExtra("open_clip", "openclip", "the pool of ImageNet class names") from error
    templates = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    return TextList("imagenet-classes", list(IMAGENET_CLASSNAMES), templates)


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
