"""JSON that every reader takes: it has no NaN and no infinity, so what is undefined is null."""

import json
import math
from typing import Any


def json_text(content: Any, indent: int | None = None) -> str:
    """`content` as strict JSON, on one line unless indented; NaN and infinities as null."""
    return json.dumps(finite(content), ensure_ascii=False, allow_nan=False, indent=indent)


def finite(content: Any) -> Any:
    """Plain data with None for NaN and infinities, all the way down; tuples become lists, as in JSON."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content
