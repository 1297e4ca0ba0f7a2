"""What every judge says of a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Judgement:
    """Whether a picture shows the shown class and the predicted one; None where the judge does not know. note: why."""

    shows_source: bool | None
    shows_target: bool | None
    note: str = ""

    @property
    def valid(self) -> bool | None:
        """Whether it is a test: shows the one and not the other; None where that is not known."""
        if self.shows_source is False or self.shows_target is True:
            return False
        return None if self.shows_source is None or self.shows_target is None else True

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "valid": self.valid}


@runtime_checkable
class Judge(Protocol):
    """Someone or something that looks at pictures. settings: what changes its judgements."""

    name: str
    settings: dict[str, object]

    def judge(self, line: Mapping[str, Any], picture: Path) -> Judgement:
        """A picture of an attack. line: its line in images.jsonl. Raises a `SecondLensError` where it cannot."""
        ...
