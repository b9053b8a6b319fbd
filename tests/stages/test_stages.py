"""Do the stages, run one after the other on tiny data, leave complete files, records, images and MLflow runs?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from pipeline import download, evaluate, storage, train
from pipeline.errors import InputError
from pipeline.params import MODELS, Precision, load_params, used_parameters
from pipeline.tracking import store, sync
from pipeline.tracking.records import Record, load_records
from pipeline.vae.training import Training
from tests.fixtures import TINY, all_runs, merged, run_stages, write_params

FIGURES = {
    "fc_samples", "conv_samples", "interpolation", "latent_space",
    "reconstructions", "training_curves", "rate_per_dimension", "latent_map", "neighbours",
}  # fmt: skip


@pytest.fixture
def client(finished: Path) -> MlflowClient:
    return store.open_store()


def test_every_figure_says_what_it_was_made_from(finished: Path) -> None:
    assert {path.stem for path in (finished / storage.FIGURES).iterdir()} == FIGURES
    weights = {model: storage.md5(storage.weights_path(model)) for model in MODELS}
    for name in FIGURES:
        text = storage.load_figure_text(finished / storage.FIGURES / f"{name}.png")
        assert [text["data.md5"], text["test.md5"]] == [storage.md5(path) for path in storage.IMAGES]
        assert json.loads(text["parameters"]) == used_parameters(load_params(), "render")
        shown = {model for model in MODELS if f"{model}.weights.md5" in text}
        assert shown == ({name.partition("_")[0]} if name.endswith("_samples") else set(MODELS))
        assert all(text[f"{model}.weights.md5"] == weights[model] for model in shown)


def test_records_tell_inputs_outputs_and_parameters(finished: Path) -> None:
    records = {record.stage: record for record in load_records(finished / storage.RUNS)}
    assert records.keys() == {
        *("download", "train@fc", "train@conv", "evaluate@fc", "evaluate@conv", "render"),
    }
    for record in records.values():
        for path, hashes in record.outputs.items():
            assert hashes == {"md5": storage.md5(Path(path)), "sha256": storage.sha256(Path(path))}
        assert all(storage.md5(Path(path)) == md5 for path, md5 in record.inputs.items())
        assert record.seconds > 0
    assert records["train@conv"].parameters == used_parameters(load_params(), "train", "conv")
    assert [row["epoch"] for row in records["train@fc"].history] == [1, 2]
    assert records["evaluate@fc"].weights_md5 == records["train@fc"].weights_md5


def test_one_finished_run_for_each_model_with_everything_in_it(finished: Path, client: MlflowClient) -> None:
    runs = {run.data.params["model"]: run for run in all_runs(client)}
    assert runs.keys() == set(MODELS)
    for model, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"{model} kl=1"
        assert run.data.tags["weights.md5"] == storage.md5(storage.weights_path(model))
        assert run.data.params["train.epochs"] == "2"
        assert run.inputs is not None
        assert run.inputs.dataset_inputs[0].dataset.digest == storage.md5(storage.TRAIN_IMAGES)[:8]
        assert run.data.tags["test.md5"] == storage.md5(storage.TEST_IMAGES)
        metrics = storage.load_json(storage.METRICS / f"{model}.json")
        del metrics["parameters"], metrics["multiply_adds"]
        assert {f"test/{name}": value for name, value in metrics.items()}.items() <= run.data.metrics.items()
        assert run.info.artifact_uri.startswith((finished / "mlartifacts").as_uri())
        for key in ("train/elbo", "validation/rate"):
            assert [metric.step for metric in client.get_metric_history(run.info.run_id, key)] == [1, 2]
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert {"samples.png", "reconstructions.png", "weights.safetensors", "curves.csv", "params.yaml"} <= artifacts
        images = {Path(artifact.path).name for artifact in client.list_artifacts(run.info.run_id, "images")}
        for key in ("samples", "reconstructions"):
            assert all(any(re.match(rf"{key}\Wstep\W{step}\W", name) for name in images) for step in (1, 2))
    assert runs["fc"].data.metrics.keys() == runs["conv"].data.metrics.keys()


def test_sync_again_changes_nothing(client: MlflowClient) -> None:
    before = [run.to_dictionary() for run in all_runs(client)]
    sync.update_store()
    assert [run.to_dictionary() for run in all_runs(client)] == before


def test_sync_rebuilds_the_runs_of_a_lost_store(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {run.info.run_id: run for run in all_runs(store.open_store())}
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # where no store is yet
    sync.update_store()
    client = store.open_store()
    rebuilt = all_runs(client)
    assert {run.data.tags["original.run_id"] for run in rebuilt} == before.keys()
    for run in rebuilt:
        lost = before[run.data.tags["original.run_id"]]
        assert run.info.status == "FINISHED"
        assert (run.info.run_name, run.data.params) == (lost.info.run_name, lost.data.params)
        assert run.data.metrics == lost.data.metrics
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/elbo")] == [1, 2]
    sync.update_store()
    assert len(all_runs(client)) == len(rebuilt)


def test_a_run_deleted_on_purpose_stays_deleted(
    finished: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted = next(run for run in all_runs(client) if run.data.params["model"] == "fc")
    client.delete_run(deleted.info.run_id)
    sync.update_store()
    assert "was deleted in MLflow and stays deleted" in capsys.readouterr().out
    assert {run.data.params["model"] for run in all_runs(client)} == {"conv"}
    client.restore_run(deleted.info.run_id)


def test_a_damaged_record_stops_no_stage(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (storage.RUNS / "evaluate@conv.json").write_text("<<<<<<< HEAD\n")
    sync.update_store()
    assert "reports/runs/evaluate@conv.json: is not readable JSON" in capsys.readouterr().err


def test_another_workspace_gives_the_same_bits(
    finished: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(monkeypatch)
    for path in sorted(finished.rglob("*")):
        relative = path.relative_to(finished)
        results = relative.parts[0] in ("data", "models") or relative.parts[:2] in (
            ("reports", "metrics"), ("reports", "curves"), ("reports", "figures"),
        )  # fmt: skip
        if path.is_file() and results:
            assert path.read_bytes() == (workspace / relative).read_bytes(), relative


def test_bernoulli_reports_the_assignment_loss(workspace: Path) -> None:
    write_params(workspace, merged(TINY, {"likelihood": "bernoulli"}))
    download.main()
    train.main("fc")
    evaluate.main("fc")
    metrics = storage.load_json(storage.METRICS / "fc.json")
    assert metrics["assignment_loss"] == -metrics["elbo"]
    assert "bits_per_dim" not in metrics


def test_fewer_images_than_a_batch_are_one_batch(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(workspace, merged(TINY, {"train": {"batch_size": 201}}))
    download.main()
    train.main("fc")
    assert "note: a batch has all 200 training images, not train.batch_size (201)\n" in capsys.readouterr().out


def test_a_failed_training_ends_its_run_with_the_reason(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download.main()

    def broken(*_: object) -> Iterator[dict[str, float]]:
        yield {"epoch": 1, "train/elbo": -1.0, "validation/elbo": -1.0}
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Training, "epochs", broken)
    with pytest.raises(RuntimeError):
        train.main("fc")
    (run,) = all_runs(store.open_store())
    assert run.info.status == "FAILED"
    assert run.data.tags["status.reason"] == "RuntimeError: a mistake of ours"
    assert not storage.weights_path("fc").exists()


def test_a_diverged_training_is_one_line_and_writes_no_weights(workspace: Path) -> None:
    write_params(workspace, merged(TINY, {"train": {"learning_rate": 1e18, "max_grad_norm": 1e30}}))
    download.main()
    diverged = r"^epoch \d, step \d of 4: .*(rate|distortion|gradient).*; lower train.learning_rate \(1e\+18\)"
    with pytest.raises(InputError, match=diverged):
        train.main("fc")
    assert not storage.weights_path("fc").exists()
    (run,) = all_runs(store.open_store())
    assert run.info.status == "FAILED"


def test_training_goes_on_without_a_store_and_sync_catches_up(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    download.main()

    def unreachable() -> MlflowClient:
        raise OSError("no store")

    with monkeypatch.context() as patch:
        patch.setattr(store, "open_store", unreachable)
        train.main("fc")
    assert "warning: MLflow cannot be reached" in capsys.readouterr().err
    assert Record.load(storage.RUNS / "train@fc.json").run_id is None
    sync.update_store()
    (run,) = all_runs(store.open_store())
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("precision", "native", "out", "err"),
    [
        ("float32", False, "", ""),
        ("float32", True, "note: train.precision: bfloat16 was 1.1 to 1.4 times as fast", ""),
        ("bfloat16", True, "", ""),
        ("bfloat16", False, "", "warning: train.precision: bfloat16 is emulated here"),
    ],
)
def test_a_precision_that_does_not_fit_the_processor_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    precision: Precision, native: bool, out: str, err: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(train, "has_bfloat16", lambda _: native)
    train.tell_of_precision(precision, torch.device("cpu"))
    told = capsys.readouterr()
    for text, expected in ((told.out, out), (told.err, err)):
        assert text.startswith(expected)
        assert text.count("\n") == bool(expected)
