"""Does sync leave alone what it should: other folders' results, deletions, half-made runs, other processes?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.tracking import MlflowClient

from pipeline import storage
from pipeline.tracking import lineage, runs, store, sync
from pipeline.tracking.records import Record, record_path
from tests.fixtures import all_runs
from tests.processes import at_once


def without_store(folder: Path) -> None:
    shutil.rmtree(folder / lineage.ARTIFACTS)
    for path in folder.glob(f"{lineage.DATABASE}*"):
        path.unlink()


SYNC_AT_ONCE = """
import sys
from pipeline.tracking import store, sync
store.open_store()
print("ready", flush=True)
sys.stdin.readline()
sync.update_store()
"""


def test_three_processes_restore_each_run_once(copied: Path) -> None:
    without_store(copied)
    assert at_once(SYNC_AT_ONCE, 3) == [("", "")] * 3
    assert sorted(run.data.params["model"] for run in all_runs(store.open_store())) == ["conv", "fc"]


def test_a_store_that_fails_is_asked_once_and_not_for_each_folder(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_store(copied)
    asked = []

    def failing(client: MlflowClient, name: str) -> None:
        asked.append(name)
        raise MlflowException("unable to open database file", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", failing)
    sync.update_store(*[storage.RUNS] * 40)
    assert len(asked) == 1
    assert capsys.readouterr().err.count("unable to open database file") == 1


def test_an_interrupted_restoration_goes_on(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_store(copied)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "catch_up", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync.update_store()
    (begun,) = all_runs(store.open_store())
    sync.update_store()
    found = {run.info.run_id: run for run in all_runs(store.open_store())}
    assert len(found) == 2
    assert found[begun.info.run_id].info.status == "FINISHED"
    assert found[begun.info.run_id].data.params["kl_weight"] == "1.0"


def test_an_experiment_with_the_same_weights_changes_nothing_that_the_checkout_shows(copied: Path) -> None:
    sync.update_store()
    before = [run.to_dictionary() for run in all_runs(store.open_store())]
    experiment = copied / "copy" / storage.RUNS
    shutil.copytree(storage.REPORTS, experiment.parent)
    path = experiment / "evaluate@conv.json"
    (content,) = storage.load_json(path)
    content["metrics"]["test/mse"] = 0.5
    content["metrics"]["test/new"] = 1.0
    storage.save_json(path, [content])
    sync.update_store(experiment)
    after = {run.data.params["model"]: run for run in all_runs(store.open_store())}
    assert after["conv"].data.metrics.pop("test/new") == 1.0
    assert {run["info"]["run_id"]: run["data"]["metrics"]["test/mse"] for run in before} == {
        run.info.run_id: run.data.metrics["test/mse"] for run in after.values()
    }


def test_new_metrics_and_figures_of_the_checkout_replace_the_old(copied: Path) -> None:
    sync.update_store()
    (content,) = storage.load_json(record_path("evaluate@fc"))
    content["metrics"]["test/mse"] = 0.5
    content["started"] = "2001-01-01T00:00:00.000+00:00"  # results from the run cache are older
    storage.save_json(record_path("evaluate@fc"), [content])
    figure = storage.FIGURES / "fc_samples.png"
    shutil.copy(storage.FIGURES / "conv_samples.png", figure)
    (drawn,) = storage.load_json(record_path("render"))
    old = drawn["outputs"][str(figure)]["sha256"]
    drawn["outputs"][str(figure)] = drawn["outputs"][str(storage.FIGURES / "conv_samples.png")]
    storage.save_json(record_path("render"), [drawn])
    sync.update_store()
    client = store.open_store()
    (run,) = [run for run in all_runs(client) if run.data.params["model"] == "fc"]
    assert run.data.metrics["test/mse"] == 0.5
    assert run.data.tags["figure.fc_samples"].split() == [old, drawn["outputs"][str(figure)]["sha256"]]
    assert Path(client.download_artifacts(run.info.run_id, "samples.png")).read_bytes() == figure.read_bytes()


def test_a_deleted_experiment_stays_deleted_until_a_new_training(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync.update_store()
    client = store.open_store()
    client.delete_experiment("1")
    sync.update_store()
    assert "note: experiment shapes was deleted in MLflow and stays deleted" in capsys.readouterr().out
    assert all_runs(client) == []
    record = Record("train@fc", Record.load(record_path("train@fc")).parameters, "shapes")
    with runs.LiveRun(record, copied / "lock") as run:
        assert run is not None
    assert "note: experiment shapes was deleted in MLflow; it is back" in capsys.readouterr().out
    assert len(all_runs(client)) == 3


def test_a_run_deleted_before_it_was_complete_stops_no_other(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_store(copied)
    client = store.open_store()
    record = Record.load(record_path("train@conv"))
    begun = client.create_run(store.experiment_id(client, "shapes"), tags={lineage.ORIGINAL_TAG: str(record.run_id)})
    client.delete_run(begun.info.run_id)
    sync.update_store()
    assert f"({begun.info.run_id}) was deleted in MLflow and stays deleted" in capsys.readouterr().out
    assert [run.data.params["model"] for run in all_runs(client)] == ["fc"]


def test_params_yaml_has_what_the_training_used(copied: Path) -> None:
    made_under = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text("edited: since\n")
    sync.update_store()
    client = store.open_store()
    for run in all_runs(client):
        used = yaml.safe_load(Path(client.download_artifacts(run.info.run_id, "params.yaml")).read_text())
        assert used["train"] == made_under["train"]
        assert used["networks"] == {run.data.params["model"]: made_under["networks"][run.data.params["model"]]}
        assert "run" not in used
        assert json.loads(run.data.params["train.epochs"]) == 2


def test_the_list_of_runs_is_what_the_store_has(copied: Path) -> None:
    path = lineage.stored_runs_path()
    assert path == copied / "mlflow.db.runs.json"
    path.unlink()
    sync.update_store()
    client = store.open_store()
    assert lineage.load_stored_runs(path) == store.stored_runs(client)
    written = path.stat().st_mtime_ns
    sync.update_store()
    assert path.stat().st_mtime_ns == written
