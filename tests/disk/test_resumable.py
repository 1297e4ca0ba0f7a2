"""Tasks in pieces: killed at any point they end the same, and what does not fit is made again or refused."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secondlens.disk.resumable import JOURNAL, Resumable
from secondlens.errors import OutputError, SecondLensError, TextError

SETTINGS = {"seed": 0, "sizes": [1, 2]}
TASK = """
import hashlib, sys
from pathlib import Path
from secondlens.disk.resumable import Resumable
folder = Path(sys.argv[1])
kept = Resumable(folder / "progress", {"pieces": 30})
state = kept["state"].read_bytes() if "state" in kept else b""
print("ready", flush=True)
made = len(state) // 32
for number in range(made, 400):
    piece = hashlib.sha256(b"%d" % number).digest()
    if number % 10 == 0 and f"piece-{number}" not in kept:
        kept.keep(f"piece-{number}", lambda path: path.write_bytes(piece * 1000))
    state += piece
    kept.keep("state", lambda path: path.write_bytes(state))
whole = b"".join(kept[f"piece-{number}"].read_bytes() for number in range(0, 400, 10)) + state
(folder / "result").write_bytes(whole)
kept.done()
"""


def test_a_task_killed_anywhere_ends_the_same(tmp_path: Path) -> None:
    draw, kills = random.Random(0), 0
    (tmp_path / "whole").mkdir()
    subprocess.run([sys.executable, "-c", TASK, tmp_path / "whole"], check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "killed"
    folder.mkdir()
    for _ in range(4):
        task = subprocess.Popen([sys.executable, "-c", TASK, folder], stdout=subprocess.PIPE)
        assert task.stdout is not None
        task.stdout.readline()
        try:
            task.wait(draw.uniform(0.005, 0.15))
        except subprocess.TimeoutExpired:
            os.kill(task.pid, signal.SIGKILL)
            kills += task.wait() == -signal.SIGKILL
        task.stdout.close()
    assert kills
    subprocess.run([sys.executable, "-c", TASK, folder], check=True, stdout=subprocess.DEVNULL)
    assert (folder / "result").read_bytes() == (tmp_path / "whole" / "result").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["result"]


def keep(folder: Path, **pieces: str) -> Resumable:
    """Open a folder with the usual settings and keep pieces there."""
    kept = Resumable(folder, SETTINGS, TextError, "use another folder")
    for name, text in pieces.items():
        kept.keep(name, lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    return kept


def test_pieces_are_found_again_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    kept = keep(folder)
    assert not (tmp_path / "a").exists()
    keep(folder, one="1", two="2")
    kept = keep(folder, two="3")
    assert (kept["one"].read_text(), kept["two"].read_text()) == ("1", "3")
    again = keep(folder)
    assert ("one" in again, "two" in again, "three" in again) == (True, True, False)
    assert again["two"].read_text() == "3"
    assert len(list(folder.iterdir())) == 3
    again.done()
    assert not folder.exists()
    assert "one" not in keep(folder)


def test_a_damaged_piece_and_a_torn_line_are_made_again(tmp_path: Path) -> None:
    kept = keep(tmp_path / "p", one="1", two="2", three="3", four="4")
    kept["one"].write_text("x")
    kept["two"].unlink()
    journal = tmp_path / "p" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])
    kept = keep(tmp_path / "p")
    assert [name in kept for name in ("one", "two", "three", "four")] == [False, False, True, False]
    keep(tmp_path / "p", one="1", two="2", four="4")
    kept = keep(tmp_path / "p")
    assert [kept[name].read_text() for name in ("one", "two", "three", "four")] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", ".hidden", "", "a\\b", "a\n"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    kept = keep(tmp_path / "p", one="1")
    with pytest.raises(ValueError, match="plain name"):
        kept.keep(name, lambda path: path.write_text("x"))
    with (tmp_path / "p" / JOURNAL).open("a") as file:
        file.write(json.dumps({"piece": name, "sha256": "0"}) + "\n")
    with pytest.raises(TextError, match=r"journal.jsonl is damaged \(expected a plain name.*; use another folder"):
        keep(tmp_path / "p")


@pytest.mark.parametrize("line", ["[]", "{}", "no json", '{"piece": 1, "sha256": "0"}', '{"piece": "a", "sha256": 0}'])
def test_a_damaged_journal_is_refused(tmp_path: Path, line: str) -> None:
    keep(tmp_path / "p", one="1")
    with (tmp_path / "p" / JOURNAL).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TextError, match="is damaged"):
        keep(tmp_path / "p")


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    keep(tmp_path / "p", one="1")
    for settings, message in (
        ({"seed": 1, "sizes": [1, 2]}, "other settings: seed was 0, is 1; use"),
        ({"seed": 0}, r"sizes was \[1, 2\], is not set"),
        ({**SETTINGS, "more": "x"}, "more was not set, is 'x'"),
    ):
        with pytest.raises(SecondLensError, match=message):
            Resumable(tmp_path / "p", settings)


def test_a_piece_that_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise IsADirectoryError(21, "is a directory")

    kept = keep(tmp_path / "p", one="1")
    with pytest.raises(OutputError):
        kept.keep("one", fail)
    assert kept["one"].read_text() == keep(tmp_path / "p")["one"].read_text() == "1"
    assert len(list((tmp_path / "p").iterdir())) == 2
