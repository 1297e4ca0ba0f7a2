"""One writer a folder: a second process is refused and told who the first is; a killed one leaves nothing behind."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from secondlens.atlas import Atlas
from secondlens.disk.lock import HOLDER, one_writer
from secondlens.errors import OutputError
from secondlens.lens import LensModel

HOLD = """
import sys
from pathlib import Path
from secondlens.disk.lock import one_writer
with one_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


FORKED = HOLD.replace(
    "    print", "    if os.fork() == 0:\n        time.sleep(5)\n        os._exit(0)\n    print"
).replace("import sys", "import os, sys, time")


SURVEY = """
import sys
from secondlens.cli import app
from secondlens.surveys import run
real = run.stream
def stream(*arguments):
    print("ready", flush=True)
    sys.stdin.read()
    return real(*arguments)
run.stream = stream
app.main()
"""


def hold(folder: Path, script: str = HOLD) -> subprocess.Popen[str]:
    """Start a process that writes a folder until its input ends."""
    other = subprocess.Popen(
        [sys.executable, "-c", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    return other


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    other = hold(folder)
    message = rf"out is being written by process {other.pid} on .+ since 20.+ \(-c .*out\): expected one .*choose"
    with pytest.raises(OutputError, match=message), one_writer(folder):
        pytest.fail("two writers")
    (folder / HOLDER).unlink()
    with pytest.raises(OutputError, match="written by another process"), one_writer(folder):
        pytest.fail("two writers")
    with one_writer(tmp_path / "another"):
        pass
    other.communicate("")
    assert other.returncode == 0
    assert list(folder.iterdir()) == []
    with one_writer(folder):
        pass


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    """Nor does a child of its that lives on, as processes that decode images may."""
    other = hold(tmp_path, FORKED)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with one_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    for stream in (other.stdin, other.stdout):
        assert stream is not None
        stream.close()


def test_what_is_called_inside_may_write_and_other_threads_may_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def write() -> None:
        try:
            with one_writer(tmp_path):
                pass
        except OutputError as error:
            refused.append(str(error))

    with one_writer(tmp_path), one_writer(None):
        with one_writer(tmp_path / "." / ""):
            pass
        assert (tmp_path / HOLDER).is_file()
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1
    write()
    assert len(refused) == 1


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"), one_writer(tmp_path / "file"):
        pass


def test_two_surveys_into_one_folder(clip: LensModel, pictures: Path, tmp_path: Path) -> None:
    """One writes the atlas, the other exits with 2 and one line."""
    folder = tmp_path / "atlas"
    arguments = ["survey", clip.reference, str(pictures), "--out", str(folder), "--top", "4", "--workers", "0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", SURVEY, *arguments], **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "ready\n"
    run = "from secondlens.cli import app; app.main()"
    second = subprocess.run([sys.executable, "-c", run, *arguments], capture_output=True, text=True)
    assert second.returncode == 2
    last = second.stderr.strip().splitlines()[-1]
    assert last.startswith(f"secondlens: {folder} is being written by process {first.pid} on ")
    assert "Traceback" not in second.stderr
    _, told = first.communicate("")
    assert first.returncode == 0, told
    assert Atlas.open(folder).layers
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
