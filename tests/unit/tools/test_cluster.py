"""Is what workers return taken in whole, and nothing else?"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from bench.cluster import simulate
from pipeline.errors import InputError
from pipeline.tools import cluster, worker
from pipeline.tools.worker import Result
from pipeline.tracking import lineage
from tests.fixtures import ROOT

CONTENT = b"weights"
MD5 = hashlib.md5(CONTENT).hexdigest()
NAME = f"files/md5/{MD5[:2]}/{MD5[2:]}"


def packed(*names: str, content: bytes = CONTENT) -> Result:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return Result(buffer.getvalue(), {})


def test_what_a_clone_has_in_its_cache_arrives(tmp_path: Path) -> None:
    cache, run = tmp_path / "theirs", f"runs/ab/{'ab' * 32}/{'cd' * 32}"
    for name in (NAME, run):
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_bytes(CONTENT)
    ours = tmp_path / "ours"
    cluster.take_in(Result(worker.packed(cache), {}), ours)
    assert {path.relative_to(ours).as_posix() for path in ours.rglob("*") if path.is_file()} == {NAME, run}
    cluster.check_out({"outs": [{"path": str(tmp_path / "models/fc"), "md5": MD5}]}, ours)
    assert (tmp_path / "models/fc").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "files/md5/ab/../../../escaped", "tmp/lock"])
def test_what_is_no_file_of_a_cache_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected files of a DVC cache alone"):
        cluster.take_in(packed(name), tmp_path / "cache")
    assert not list(tmp_path.rglob("escaped"))


def test_content_under_a_name_that_is_not_its_md5_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another content than its name says"):
        cluster.take_in(packed(NAME, content=b"others"), tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_link_in_a_cache_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo(NAME)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match="expected files of a DVC cache alone"):
        cluster.take_in(Result(buffer.getvalue(), {}), tmp_path)


def test_locks_keep_the_bytes_that_dvc_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / cluster.LOCK).read_text(encoding="utf-8")
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path)
    cluster.save_lock(lineage.entries(text))
    assert cluster.LOCK.read_text(encoding="utf-8") == text


def test_machines_with_other_versions_are_told_apart() -> None:
    expected = worker.versions(["python", "torch"])
    assert worker.differences(expected, expected) == ""
    said = worker.differences(expected | {"torch": "0.1", "absent": "1.0"}, expected | worker.versions(["absent"]))
    assert f"found torch {expected['torch']}, expected 0.1 as on the head" in said
    assert "found absent none, expected 1.0 as on the head" in said


@pytest.mark.parametrize("override", ["kl_weight", "kl_weight=", "=1", "kl weight=1"])
def test_a_sweep_over_nothing_is_told(override: str) -> None:
    with pytest.raises(InputError, match="expected key=value,value"):
        cluster.combinations([override])


def test_the_head_is_the_limit_only_where_workers_are_many() -> None:
    alone = simulate(cells=10, workers=1, cell=100.0, send=1.0, take=2.0, first=5.0)
    assert alone == pytest.approx(5 + 10 * 102 + 9 * 1)
    assert simulate(cells=10, workers=10, cell=100.0, send=1.0, take=2.0, first=0.0) == pytest.approx(1 + 100 + 10 * 2)
    busy = simulate(cells=1000, workers=1000, cell=1.0, send=1.0, take=2.0, first=0.0)
    assert busy == pytest.approx(3000, rel=0.01)
