"""Is the store created once, whoever comes first, and found again after a move?"""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.tracking import store
from tests.conftest import all_runs, enter


def open_at_once(folder: Path, barrier: object, answers: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        barrier.wait()  # type: ignore[attr-defined]
        answers.put(store.experiment_id(store.open_store(), "shapes"))  # type: ignore[attr-defined]


def test_four_processes_at_once_create_one_store(workspace: Path) -> None:
    processes = multiprocessing.get_context("spawn")
    barrier, answers = processes.Barrier(4, timeout=300), processes.Queue()
    arguments = (workspace, barrier, answers)
    started = [processes.Process(target=open_at_once, args=arguments, daemon=True) for _ in range(4)]
    for process in started:
        process.start()
    found = [answers.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    assert found == ["1"] * 4
    assert sorted(path.name for path in workspace.iterdir() if "partial" in path.name) == []


def test_a_moved_store_finds_its_artifacts_and_models(finished: Path, copied: Path) -> None:
    database = copied / store.DATABASE
    with sqlite3.connect(database) as connection:
        before = {row for (row,) in connection.execute("SELECT artifact_uri FROM runs")}
    assert all(uri.startswith(finished.as_uri()) for uri in before)
    client = store.open_store()
    runs = all_runs(client)
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri.startswith(copied.as_uri())
        local = client.download_artifacts(run.info.run_id, "samples.png")
        model = run.data.params["model"]
        assert Path(local).read_bytes() == (storage.FIGURES / f"{model}_samples.png").read_bytes()
    for table, column in store.LOCATIONS:
        with sqlite3.connect(database) as connection:
            locations = [row for (row,) in connection.execute(f"SELECT {column} FROM {table}") if row]
        assert not any(str(finished) in location for location in locations), (table, column)


def test_artifacts_of_the_default_experiment_stay_beside_the_database(workspace: Path) -> None:
    experiment = store.open_store().get_experiment("0")
    assert experiment.artifact_location == f"{(workspace / store.ARTIFACTS).as_uri()}/Default"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no host:1", "http:///nothing"])
def test_a_server_that_does_not_answer_is_an_oserror(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(OSError):  # noqa: PT011  # refused, or no address: each system words it differently
        store.open_store()


def test_a_server_has_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store.database() is None


@pytest.mark.parametrize("prefix", ["", "{workspace}/"])
def test_another_database_has_its_artifacts_beside_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prefix.format(workspace=workspace)}elsewhere/runs.db")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")  # DVC runs experiments in copies
    client = store.open_store()
    experiment = client.get_experiment(store.experiment_id(client, "shapes"))
    assert experiment.artifact_location == (workspace / "elsewhere" / store.ARTIFACTS / "shapes").as_uri()
    assert not (workspace / store.DATABASE).exists()
