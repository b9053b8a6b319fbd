"""Is the store created once, whoever comes first, and found again after a move?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import storage
from pipeline.tracking import lineage, store, sync
from tests.conftest import all_runs, enter
from tests.processes import processes
from tests.refusals import refused


def open_at_once(folder: Path, barrier: object, answers: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        barrier.wait()  # type: ignore[attr-defined]
        answers.put(store.experiment_id(store.open_store(), "shapes"))  # type: ignore[attr-defined]


def test_four_processes_at_once_create_one_store(workspace: Path) -> None:
    context = processes()
    barrier, answers = context.Barrier(4, timeout=300), context.Queue()
    arguments = (workspace, barrier, answers)
    started = [context.Process(target=open_at_once, args=arguments, daemon=True) for _ in range(4)]
    for process in started:
        process.start()
    found = [answers.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    assert found == ["1"] * 4
    assert sorted(path.name for path in workspace.iterdir() if "partial" in path.name) == []


def test_a_moved_store_is_rebuilt_with_its_previews_and_the_old_one_kept(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.open_store()
    (aside,) = copied.glob(f"{lineage.DATABASE}.2*")
    assert capsys.readouterr().out == (
        f"note: mlflow.db came here from {finished}; it is kept as {aside.name}, a new one is made from the records\n"
    )
    sync.update_store()
    client = store.open_store()
    assert capsys.readouterr().out == ""
    runs = all_runs(client)
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri.startswith(copied.as_uri())
        local = client.download_artifacts(run.info.run_id, "samples.png")
        model = run.data.params["model"]
        assert Path(local).read_bytes() == (storage.FIGURES / f"{model}_samples.png").read_bytes()
        assert len(client.list_artifacts(run.info.run_id, "images")) == 2 * 2 * 2  # kinds, epochs, formats
        assert client.get_logged_model(run.data.tags["model_id"]).artifact_location.startswith(copied.as_uri())


def test_a_database_of_anothers_experiments_stays_as_it_is(workspace: Path) -> None:
    store.open_store().create_experiment("mine", "file:///elsewhere/artifacts/mine")
    (workspace / lineage.ARTIFACTS / "mine").mkdir(parents=True)
    assert store.open_store().get_experiment_by_name("mine") is not None


def test_artifacts_of_the_default_experiment_stay_beside_the_database(workspace: Path) -> None:
    experiment = store.open_store().get_experiment("0")
    assert experiment.artifact_location == f"{(workspace / lineage.ARTIFACTS).as_uri()}/0"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no host:1", "http:///nothing"])
def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with refused(f"MLFLOW_TRACKING_URI: {uri} does not answer (", "); start the server, or unset the variable"):
        store.open_store()


def test_a_server_has_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert lineage.database() is None


@pytest.mark.parametrize("prefix", ["", "{workspace}/"])
def test_another_database_has_its_artifacts_beside_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prefix.format(workspace=workspace)}elsewhere/runs.db")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")  # DVC runs experiments in copies
    client = store.open_store()
    experiment = client.get_experiment(store.experiment_id(client, "shapes"))
    assert experiment.artifact_location == (workspace / "elsewhere" / lineage.ARTIFACTS / "shapes").as_uri()
    assert not (workspace / lineage.DATABASE).exists()
