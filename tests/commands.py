"""The command line inside the test's own process: a new one takes seconds to import what it needs."""

import sys
from typing import NamedTuple

import pytest

from secondlens.cli.app import main


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def secondlens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run a command as the entry point does."""
    monkeypatch.setattr(sys, "argv", ["secondlens", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return Result(code if isinstance(code, int) else 0, *capsys.readouterr())
