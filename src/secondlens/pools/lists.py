"""The list in a language model's answer."""

import json
import re

_FENCE = re.compile(r"^\s*```\w*\s*$")
_BULLET = re.compile(r"^\s*(?:[-*+\u2022\u2013]|\(?\d{1,3}[.):])\s+")
_QUOTES = "\"'\u201c\u201d\u2018\u2019`"


def parse_list(answer: str) -> list[str]:
    """Its entries: of a JSON list, or one a line without bullets, numbers, quotes and emphasis.

    Where some lines have bullets or numbers only those count; a line that ends in a colon is an introduction.
    """
    lines = [line for line in answer.splitlines() if line.strip() and not _FENCE.match(line)]
    found = _json_list("\n".join(lines))
    if found is not None:
        return found
    marked = [line for line in lines if _BULLET.match(line)]
    kept = marked or [line for line in lines if not line.rstrip().endswith(":")]
    return [text for text in (_bare(_BULLET.sub("", line, count=1)) for line in kept) if text]


def _json_list(text: str) -> list[str] | None:
    start, end = text.find("["), text.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        content = json.loads(text[start : end + 1])
    except ValueError:
        return None
    if not isinstance(content, list) or not all(isinstance(entry, str) for entry in content):
        return None
    return [entry.strip() for entry in content if entry.strip()]


def _bare(text: str) -> str:
    text = text.strip().rstrip(",")
    for mark in ("**", "__", "*", "_"):
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark) : -len(mark)]
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1]
    return text.strip()
