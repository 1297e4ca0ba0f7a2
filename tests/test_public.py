"""The public page: what `secondlens` exports, and that its documentation says so."""

import inspect
from pathlib import Path

import pytest

import secondlens as sl

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_exists_and_is_documented() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in sl.__all__:
        value = getattr(sl, name)
        if name == "__version__":
            continue
        assert inspect.getdoc(value), name
        assert f"`{name}`" in reference, f"docs/api.md does not mention {name}"
    assert dir(sl) == sorted(sl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'surveys_of'"):
        _ = sl.surveys_of


def test_the_version_is_one() -> None:
    # The package's metadata are made of it when it is built.
    assert f"## {sl.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {sl.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
