"""Does a record hold what nothing else tells, and is one of another version read?"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking import lineage
from pipeline.tracking.records import Record, load_records, locked_beside, processor, record_folders, record_path
from tests.fixtures import ROOT


@pytest.fixture
def saved(workspace: Path) -> Path:
    """The file of a small record."""
    record = Record("download", {"seed": 0}, "shapes")
    record.save([Path("params.yaml")], [Path("params.yaml")])
    return record_path(record.stage)


def test_git_is_asked_once_for_a_record_and_not_for_one_that_is_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def git(*arguments: str) -> bytes:
        asked.append(arguments)
        return b"# branch.oid abc\n1 .M code\n"

    monkeypatch.setattr(lineage, "git", git)
    record = Record("download", {}, "shapes")
    assert (record.commit, record.dirty, len(asked)) == ("abc", True, 1)
    Record.load(saved)
    assert len(asked) == 1


def test_a_record_has_hashes_of_its_files_but_not_their_text(saved: Path) -> None:
    record = Record.load(saved)
    assert record.inputs == {"params.yaml": storage.md5(Path("params.yaml"))}
    assert record.outputs == {"params.yaml": lineage.hashes(Path("params.yaml"))}
    assert "likelihood" not in saved.read_text()


def test_a_record_of_another_version_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "of the process that reads it")
    (content,) = storage.load_json(saved)
    for name in ("commit", "dirty", "experiment", "cell"):
        del content[name]
    storage.save_json(saved, [content | {"params_file": "seed: 0", "of a later version": 1}])
    record = Record.load(saved)
    assert (record.commit, record.dirty, record.experiment, record.cell) == (None, None, None, None)


@pytest.mark.parametrize("content", [[], {}, "record", [1], ["stage"], [[]], [{}], [{"stage": "train@fc"}]], ids=str)
def test_what_is_no_record_is_one_line(saved: Path, content: Any) -> None:
    storage.save_json(saved, content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(saved))}: is not a record of a stage"):
        Record.load(saved)


def test_every_committed_record_is_read_and_has_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    listed = subprocess.run(["git", "ls-files", "*/runs/*.json"], check=True, capture_output=True, text=True).stdout
    committed = {Path(name).parent for name in listed.splitlines()}
    assert committed <= set(record_folders())
    for folder in committed:
        outputs = {path: hashes["md5"] for record in load_records(folder) for path, hashes in record.outputs.items()}
        locked = locked_beside(folder)
        assert outputs.keys() & locked.keys() or "comparisons" in folder.parts
        assert all(locked.get(path, md5) == md5 for path, md5 in outputs.items())


def test_a_record_names_the_processor(workspace: Path) -> None:
    record = Record("render", {}, "shapes")
    record.save([], [])
    assert Record.load(record_path("render")).environment["processor"] == processor() != ""
