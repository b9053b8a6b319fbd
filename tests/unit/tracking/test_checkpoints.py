"""Are the last two states of a training kept whole, used by an equal training alone, and by one process at a time?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import storage
from pipeline.tracking.checkpoints import Checkpoints, is_held
from tests.processes import fork, lines_of

IDENTITY = {"data": "abc", "parameters": {"seed": 0}}


def states(step: int) -> storage.Arrays:
    return {"weights": np.full((2, 3), step, np.float32), "empty": np.zeros((2, 0)), "count": np.array(step)}


def checkpoints(seconds: float = 60, **changes: Any) -> Checkpoints:
    return Checkpoints("train@fc", IDENTITY | changes, seconds)


def steps(kept: Checkpoints) -> list[int]:
    return [int(path.stem) for path in sorted(kept.folder.glob("*.safetensors"))]


def test_the_last_two_are_kept_and_the_newest_is_used(workspace: Path) -> None:
    kept = checkpoints()
    with kept.lock():
        for step in (9, 10, 100):
            kept.save(step, states(step), {"history": [{"epoch": step}]})
        assert steps(kept) == [10, 100]
    with checkpoints().lock():
        loaded = checkpoints().load()
    assert loaded is not None
    arrays, header = loaded
    assert header == {"history": [{"epoch": 100}]}
    assert arrays.keys() == states(100).keys()
    assert all(np.array_equal(arrays[name], value) for name, value in states(100).items())


def damaged(content: bytes) -> list[bytes]:
    return [
        b"",
        content[:-1],
        content[:-3] + b"\x01" + content[-2:],
        content.replace(b"sha256", b"sha255"),
        content.replace(b"1.5", b"1.6"),
    ]


@pytest.mark.parametrize("damage", range(5), ids=["empty", "truncated", "a bit flipped", "foreign", "another history"])
def test_a_damaged_one_is_told_of_and_the_one_before_it_used(
    workspace: Path, capsys: pytest.CaptureFixture[str], damage: int
) -> None:
    kept = checkpoints()
    with kept.lock():
        kept.save(1, states(1), {})
        kept.save(2, states(2), {"seconds": 1.5})
        newest = kept.folder / "000000002.safetensors"
        newest.write_bytes(damaged(newest.read_bytes())[damage])
        loaded = kept.load()
    assert loaded is not None
    assert int(loaded[0]["count"]) == 1
    assert capsys.readouterr().err.startswith(f"warning: {newest}: is damaged; using the checkpoint before it")
    assert steps(kept) == [1]


def test_another_training_uses_none_and_hears_of_those_left_aside(workspace: Path) -> None:
    kept = checkpoints()
    with kept.lock():
        kept.save(1, states(1), {})
        other = checkpoints(data="abd")
        with other.lock():
            assert other.load() is None
            assert other.left_aside() == []  # at which a process is
    assert other.left_aside() == [kept.folder]
    assert checkpoints().left_aside() == []


def test_removed_they_leave_nothing_behind_but_those_of_others(workspace: Path) -> None:
    kept, other = checkpoints(), checkpoints(data="abd")
    with kept.lock(), other.lock():
        kept.save(1, states(1), {})
        for half in (".000000002.safetensors.1.partial.safetensors", ".tmpunJkTc"):  # ours, and that of safetensors
            (kept.folder / half).touch()
    with kept.lock():
        kept.remove()
    assert list(kept.folder.parent.iterdir()) == [other.folder]
    with other.lock():
        other.remove()
    assert not kept.folder.parent.exists()


def test_they_are_due_after_so_many_seconds(workspace: Path) -> None:
    assert checkpoints(seconds=0).due()
    assert not checkpoints(seconds=3600).due()


FIRST = """
import sys
from tests.unit.tracking.test_checkpoints import checkpoints
kept = checkpoints()
with kept.lock():
    print("held", flush=True)
    sys.stdin.readline()
    open("order", "a").write("first ")
    kept.remove()
"""
SECOND = """
from tests.unit.tracking.test_checkpoints import checkpoints
with checkpoints().lock():
    open("order", "a").write("second")
"""


def test_a_second_process_waits_for_the_first(workspace: Path) -> None:
    first = fork("-c", FIRST)
    assert lines_of(first).readline() == "held\n"
    assert is_held(checkpoints().lock_path)
    second = fork("-c", SECOND)
    assert first.communicate("\n") == second.communicate() == ("", "")
    assert Path("order").read_text() == "first second"
    assert not is_held(checkpoints().lock_path)
