"""Is git's own reason told, and can make ask for a history before anything is set up?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.tracking.experiments import NO_HISTORY, experiment_revisions, export, git, require_history, run_experiment
from tests.fixtures import ROOT
from tests.refusals import refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in no git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_a_git_command_that_fails_is_one_line_with_gits_reason(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^git log failed: fatal: not a git repository .*$"):
        git("log")


def test_without_the_git_command_it_is_one_line_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(InputError, match=r"^git: cannot be run \(No such file or directory\)$"):
        git("log")


def test_an_experiment_tells_of_its_stages_and_leaves_out_dvcs_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a stand-in for DVC, which fails after its last word: what an experiment leaves is another test's."""
    new_repository(folder)
    (folder / "bin").mkdir()
    said = "Running stage 'train@fc'\\nRan experiment(s): demo\\nTo apply the results, run: dvc exp apply demo\\n"
    (folder / "bin/dvc").write_text(f'#!/bin/sh\ntest "$2" = remove || printf "{said}"\nexit 3\n')
    (folder / "bin/dvc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with refused("experiment demo: dvc exp run failed with exit status 3, as told above"):
        run_experiment("demo", ())
    assert capsys.readouterr().out == "Running stage 'train@fc'\n"


def test_without_a_history_there_are_no_experiments(folder: Path) -> None:
    assert experiment_revisions() == []


def new_repository(folder: Path) -> Path:
    (folder / "reports/runs").mkdir(parents=True)
    (folder / "reports/runs/a.json").write_text("{}")
    (folder / "dvc.yaml").touch()
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    git("init", "--quiet", str(folder))
    git("-C", str(folder), "add", "--all")
    for number in range(2):
        git("-C", str(folder), *identity, "commit", "--quiet", "--allow-empty", "--message", str(number))
    return folder


def test_files_of_a_commit_are_written_as_they_were_and_those_it_lacks_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(new_repository(folder / "origin"))
    Path("dvc.yaml").write_text("edited since")
    export("HEAD", folder / "some", "reports", "dvc.lock")
    export("HEAD:reports", folder / "all")
    export("HEAD", folder / "none", "dvc.lock")
    written = {path.relative_to(folder) for name in ("some", "all") for path in (folder / name).rglob("*.json")}
    assert written == {Path("some/reports/runs/a.json"), Path("all/runs/a.json")}
    assert (folder / "all/runs/a.json").read_text() == "{}"
    assert not (folder / "none").exists()


def test_a_clone_without_its_history_is_told_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_repository(folder / "origin")
    git("clone", "--quiet", "--depth", "1", (folder / "origin").as_uri(), "part")
    monkeypatch.chdir(folder / "origin")
    require_history()
    monkeypatch.chdir(folder / "part")
    with refused("but a part of the git history", "type: git fetch --unshallow"):
        require_history()


def test_a_checkout_of_another_owner_is_refused_with_gits_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_repository(folder / "theirs")
    monkeypatch.chdir(folder / "theirs")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to test it
    with refused("detected dubious ownership", "safe.directory"):
        require_history()


def test_make_asks_for_a_history_with_the_standard_library_alone(folder: Path) -> None:
    asked = [sys.executable, "-S", "-m", "pipeline.tracking.experiments"]  # -S: without the installed packages
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (1, f"error: {NO_HISTORY}\n")
