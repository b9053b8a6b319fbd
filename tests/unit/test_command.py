"""Does a stage end as a good command does: one line per mistake, the right exit status, nothing left behind?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fixtures import ROOT

STAGE = '''"""What does this stage answer?"""

import signal
import sys
from pathlib import Path

from pipeline.command import run_command
from pipeline.errors import InputError
from pipeline.storage import replacing


def main() -> None:
    if sys.argv[1] == "fc":
        raise InputError("params.yaml: seed: missing\\nparams.yaml: train: missing")
    with replacing(Path("result.json")) as partial:
        partial.write_text("half")
        print("waiting", flush=True)
        sys.stdin.read()


def fail() -> None:
    raise ValueError("a mistake of ours")


def tell() -> None:
    print("one line")


def tell_much() -> None:
    for i in range(100_000):
        print(i)
    sys.exit(1)


def lose_a_server() -> None:
    raise BrokenPipeError("a server went away")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs would ignore it
    if Path("plain").exists():
        run_command(fail)
    else:
        run_command(globals().get(sys.argv[1], main))
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stage.py").write_text(STAGE)
    return tmp_path


def environment() -> Mapping[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stage", *arguments],
        cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_stage_that_ends_well_exits_with_0(folder: Path) -> None:
    finished = run(folder, "conv")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "waiting\n", "")
    assert (folder / "result.json").read_text() == "half"


def test_every_mistake_of_the_user_is_one_line_and_no_traceback(folder: Path) -> None:
    finished = run(folder, "fc")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr == "error: params.yaml: seed: missing\nerror: params.yaml: train: missing\n"


def test_a_mistake_of_ours_keeps_its_traceback(folder: Path) -> None:
    (folder / "plain").touch()
    finished = run(folder)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Traceback")
    assert finished.stderr.endswith("ValueError: a mistake of ours\n")


@pytest.mark.parametrize(
    ("sent", "status", "told"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted\n")], ids=["term", "int"]
)
def test_a_signal_ends_a_stage_in_order(folder: Path, sent: signal.Signals, status: int, told: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "stage", "conv"],
        cwd=folder, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (status, told)
    assert [file.name for file in folder.iterdir()] == ["stage.py"]


LIKE_DVC = """
import os, subprocess, sys
stage = subprocess.Popen([sys.executable, "-m", "stage", "conv"], env=os.environ | {"DVC_STAGE": "stage"})
stage.wait()
"""


def test_a_stage_ends_in_order_when_dvc_is_killed(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIKE_DVC],
        cwd=folder, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "waiting\n"
        assert sorted(file.name for file in folder.iterdir()) != ["stage.py"]
        parent.kill()
        assert parent.stdout.read() == ""  # until the stage, which holds the pipe, has ended
    assert [file.name for file in folder.iterdir()] == ["stage.py"]


@pytest.mark.parametrize("function", ["tell", "tell_much"])
def test_output_that_nobody_reads_ends_a_command_silently(folder: Path, function: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "stage", function]
    finished = subprocess.run(
        line, cwd=folder, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (128 + signal.SIGPIPE, "")


def test_a_pipe_to_something_else_that_breaks_is_no_such_end(folder: Path) -> None:
    finished = run(folder, "lose_a_server")
    assert finished.returncode == 1
    assert finished.stderr.endswith("BrokenPipeError: a server went away\n")
