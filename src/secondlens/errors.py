"""The errors that `secondlens` raises: one small tree.

Every message says what was expected, what came, and what to do about it. The command line prints a
`SecondLensError` as one line and exits with code 2; anything else is a defect of ours and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SecondLensError(Exception):
    """Base of everything a user can cause or repair."""


class ModelError(SecondLensError):
    """A model reference that cannot be resolved, an unsupported family, or a model that fails its self-check."""


class CaptureError(SecondLensError):
    """A hook site that did not fire exactly once: the forward pass is not the one the adapter describes."""


class ImageError(SecondLensError):
    """A set of images that cannot be used (none readable, duplicate ids, an unknown kind of source)."""


class SurveyError(SecondLensError):
    """A survey that cannot start, go on or be resumed as asked."""


class NotFiniteError(SurveyError):
    """An image with an effect that is infinite or not a number. position: its number in the survey."""

    def __init__(self, position: int, name: str | None = None) -> None:
        self.position = position
        image = f"image {position}" if name is None else name
        super().__init__(
            f"{image}: its effects are not finite, expected numbers. Check the model's weights, and use a wider dtype "
            "where half precision overflows."
        )


class ClusterError(SecondLensError):
    """A cluster that cannot be reached, or a node of it that cannot do its part."""


class AtlasError(SecondLensError):
    """A folder that is no atlas, an incomplete or damaged one, or one of another model or schema."""


class OutputError(AtlasError):
    """A file or folder that cannot be written: its name's ending, what is there already, permissions, a full disk."""


class TextError(SecondLensError):
    """A pool of texts, or a request to decompose directions over it, that cannot be used."""


class LanguageError(SecondLensError):
    """A language model that cannot be opened or asked, or that has no answer."""


class EmptyAnswer(LanguageError):
    """A language model answered with nothing: another try may give more."""


class AuditError(SecondLensError):
    """An audit of two classes, or an attack built on it, that cannot be made as asked."""


class WorldError(SecondLensError):
    """A scene, a table of biases or a text of the embedded world that cannot be used."""


class ReproductionError(SecondLensError):
    """A preset that does not fit, data that it needs and that is not there, or results of other settings."""


class MissingExtra(SecondLensError):
    """An optional library is needed; the message names the extra that installs it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library!r}, which is not installed; "
            f"install it with: pip install 'secondlens[{extra}]'"
        )


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: its nearest known neighbour and the list of all."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{hint}; known: {', '.join(names) if names else 'none'}"
