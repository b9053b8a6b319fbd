"""Are hashes those of the content alone, and is the commit told as it is?"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.tracking import lineage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which no git repository around it and no configuration of the user's reaches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no configuration"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Path:
    """A repository with one commit."""
    for name in ("pipeline/train.py", "dvc.yaml", "params.yaml", "reports/metrics.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("committed\n")
    git("init", "--quiet")
    git("add", "--all")
    git("-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "start")
    return folder


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("content", [b"", b"images", bytes(range(256)) * 10_000, b"line\r\nline\n"])
def test_hashes_are_those_of_the_bytes_as_in_dvc(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    expected = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    assert lineage.hashes(path) == expected
    assert {"md5": storage.md5(path), "sha256": storage.sha256(path)} == expected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stage `render` depends on a module and on a package."""
    (tmp_path / "dvc.yaml").write_text("stages: {render: {deps: [data.bin, pipeline/render.py, pipeline/vae]}}\n")
    for name in ("render", "train", "vae/images", "vae/networks"):
        (tmp_path / f"pipeline/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"pipeline/{name}.py").write_text(f"name = {name!r}\n")
    monkeypatch.setattr(lineage, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "changes"),
    [("render.py", True), ("vae/images.py", True), ("vae/new.py", True), ("train.py", False), ("vae/notes.txt", False)],
)
def test_the_hash_of_code_is_that_of_the_stages_deps(project: Path, path: str, changes: bool) -> None:
    before = lineage.code_hash("render")
    assert lineage.code_hash("render") == before
    (project / "pipeline" / path).write_text("changed\n")
    assert (lineage.code_hash("render") != before) == changes


def test_a_stage_of_the_study_has_its_code_in_the_studys_file() -> None:
    names = {path.name for path in lineage.code_of("claims")}
    assert {"claims.py", "plots.py", "distances.py"} <= names
    assert "sync.py" not in names


def test_the_text_of_a_figure_names_data_weights_parameters_and_code_alone() -> None:
    text = lineage.figure_text("d" * 32, {"fc": "f" * 32, "conv": "c" * 32}, {"seed": 0, "render.samples": 4}, "e" * 64)
    assert text == {
        "data.md5": "d" * 32,
        "fc.weights.md5": "f" * 32,
        "conv.weights.md5": "c" * 32,
        "parameters": json.dumps({"render.samples": 4, "seed": 0}),
        "code.sha256": "e" * 64,
    }


def test_the_text_of_a_figure_is_the_same_in_every_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lineage.figure_text("d", {"fc": "f"}, {"seed": 0, "render.samples": 4}, "e")
    (repository / "elsewhere").mkdir()
    monkeypatch.chdir(repository / "elsewhere")
    monkeypatch.setenv("DVC_ROOT", str(repository / "elsewhere"))
    monkeypatch.setenv("DVC_EXP_NAME", "another-experiment")
    (repository / "pipeline" / "train.py").write_text("changed\n")
    assert lineage.figure_text("d", {"fc": "f"}, {"render.samples": 4, "seed": 0}, "e") == first


def test_the_index_of_runs_lies_beside_the_database_and_gives_back_what_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = lineage.stored_runs_path()
    assert path == tmp_path / "mlflow.db.runs.json"
    assert lineage.load_stored_runs(path) == []
    runs = [lineage.StoredRun("1", "fc", "#/runs/1", "2026-01-01", {"seed": "0"}, {lineage.WEIGHTS_TAG: "f"})]
    lineage.save_stored_runs(path, runs)
    assert lineage.load_stored_runs(path) == runs
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert lineage.stored_runs_path() is None


def test_without_git_there_is_no_commit(folder: Path) -> None:
    assert lineage.commit() == (None, None)


def test_without_the_git_command_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert lineage.commit() == (None, None)


def test_a_repository_without_a_commit_has_none(folder: Path) -> None:
    git("init", "--quiet")
    assert lineage.commit() == (None, None)


def test_the_commit_is_the_one_that_is_checked_out(repository: Path) -> None:
    assert lineage.commit() == (git("rev-parse", "HEAD"), False)


@pytest.mark.parametrize("path", ["params.yaml", "reports/metrics.json", "reports/new.json", "dvc.lock", "notes.txt"])
def test_parameters_and_results_do_not_make_a_commit_dirty(repository: Path, path: str) -> None:
    (repository / path).write_text("changed\n")
    assert lineage.commit()[1] is False


@pytest.mark.parametrize("path", ["pipeline/train.py", "pipeline/new.py", "dvc.yaml"])
def test_code_and_pipeline_make_a_commit_dirty(repository: Path, path: str) -> None:
    (repository / path).write_text("changed\n")
    assert lineage.commit()[1] is True


def test_the_main_checkout_is_where_dvc_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert storage.main_checkout() == tmp_path.resolve()
    monkeypatch.delenv("DVC_ROOT")
    assert storage.main_checkout() == Path(__file__).resolve().parents[3]
