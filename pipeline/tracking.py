"""How do results reach MLflow? Live while training, best effort; then `sync` makes the store equal to the records."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.records import Record, load_records, lock_beside
from pipeline.store import ORIGINAL_TAG, UNTRACKED, WEIGHTS_TAG, experiment_id, open_store

if TYPE_CHECKING:
    import numpy as np

COLORS = {"fc": "#d95f02", "conv": "#1b9e77"}  # of a model's runs on shared charts


class LiveRun:
    """The MLflow run of a training under way. What cannot be logged now is left to `sync`, with one warning."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._client: MlflowClient | None = None
        with self._best_effort():
            client = open_store()
            self._client = client
            record.run_id = _create_run(client, record).info.run_id

    def log_epoch(self, metrics: Mapping[str, float], pictures: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Metrics and pictures [H, W, 3] uint8 of an epoch, at that step."""
        with self._best_effort():
            if self._client and self._record.run_id:
                _log_history(self._client, self._record.run_id, [metrics])
                for key, picture in pictures.items():
                    self._client.log_image(self._record.run_id, picture, key=key, step=int(metrics["epoch"]))

    def end(self, status: str, reason: str) -> None:
        with self._best_effort():
            if self._client and self._record.run_id:
                self._client.set_tag(self._record.run_id, "status.reason", reason[:500])
                self._client.set_terminated(self._record.run_id, status)

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._client is not None or self._record.run_id is None:
                _warn(f"MLflow cannot be reached, training goes on; `make ui` catches up later: {_one_line(error)}")
            self._client = None


@contextlib.contextmanager
def live_run(record: Record) -> Iterator[LiveRun]:
    """A run that stays open for `sync` to finish when the block ends well, and else ends with its reason."""
    run = LiveRun(record)
    try:
        yield run
    except (KeyboardInterrupt, SystemExit) as stop:
        run.end("KILLED", f"{type(stop).__name__} {stop}".strip())
        raise
    except BaseException as error:
        run.end("FAILED", _one_line(error))
        raise


def sync(folder: Path = storage.RUNS) -> None:
    """Make the store tell what the records of `folder` tell; what it tells already is left as it is. Best effort.

    Models of the main checkout's own records are registered, those of experiments in copies and of the demo are not.
    """
    registers = folder.resolve() == lineage.main_checkout() / storage.RUNS
    try:
        records = load_records(folder)
        client = open_store()
        for trained in records:
            if trained.stage.startswith("train@"):
                for run in _finished_runs(client, trained):
                    _add_results(client, run, trained, records, folder)
                    _add_model(client, run, trained, folder, registers)
    except InputError as error:
        _warn(str(error))
    except Exception as error:
        _warn(f"MLflow could not be updated, the records are kept; `make ui` catches up later: {_one_line(error)}")


def _finished_runs(client: MlflowClient, trained: Record) -> Sequence[Run]:
    """All runs with the weights of a training record, its own among them: finished now, or rebuilt when lost."""
    assert trained.model is not None
    experiment, weights_md5 = experiment_id(client, trained.data_name), trained.weights_md5[trained.model]
    query = f"tags.`{WEIGHTS_TAG}` = '{weights_md5}'"
    same_weights = client.search_runs([experiment], query, run_view_type=ViewType.ALL)
    alive = [run for run in same_weights if run.info.lifecycle_stage == LifecycleStage.ACTIVE]
    own = trained.run_id or UNTRACKED
    for run in same_weights:
        if own in (run.info.run_id, run.data.tags.get(ORIGINAL_TAG)):
            if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
                print(f"note: run {run.info.run_name} ({run.info.run_id}) was deleted in MLflow and stays deleted")
            return alive
    try:
        run = client.get_run(own)
    except MlflowException:
        run = _create_run(client, trained, restores=own)
    run_id = run.info.run_id
    logged = int(max((metric.step for metric in client.get_metric_history(run_id, "train/elbo")), default=0))
    _log_history(client, run_id, [row for row in trained.history if row["epoch"] > logged], _milliseconds(trained))
    client.set_terminated(run_id, "FINISHED", end_time=_milliseconds(trained, trained.seconds))
    client.set_tag(run_id, WEIGHTS_TAG, weights_md5)
    return [*alive, client.get_run(run_id)]


def _add_results(client: MlflowClient, run: Run, trained: Record, records: Sequence[Record], folder: Path) -> None:
    """Everything that the records know of the weights that `trained` made, on one of their runs.

    A tag with the sha256 of each artifact tells what the run has; figures are tagged by the names that they have here.
    """
    assert trained.model is not None
    weights_md5 = trained.weights_md5[trained.model]
    sources, expected = {}, {}
    for path, hashes in trained.outputs.items():
        artifact = "curves.csv" if path.endswith(".csv") else Path(path).name
        sources[artifact], expected[artifact] = (f"sha256.{artifact}", _beside(folder, Path(path))), hashes["sha256"]
    for record in records:
        if record is trained or record.weights_md5.get(trained.model) != weights_md5:
            continue
        changed = {key: value for key, value in record.metrics.items() if run.data.metrics.get(key) != value}
        if changed:  # at step 0: MLflow draws bars for metrics that have no other
            now = _milliseconds(record, record.seconds)
            client.log_batch(run.info.run_id, [Metric(key, value, now, 0) for key, value in changed.items()])
        for path, hashes in record.outputs.items():
            figure = Path(path)
            owner, _, name = figure.stem.partition("_")
            if figure.suffix != ".png" or (owner in ("fc", "conv") and owner != trained.model):
                continue
            artifact = f"{name if owner == trained.model else figure.stem}.png"  # one name for both models
            sources[artifact] = (f"figure.{figure.stem}", _beside(folder, figure))
            expected[artifact] = hashes["sha256"]
    lock = lock_beside(folder)
    if lock and weights_md5 in lineage.locked(lock.read_text(encoding="utf-8")).values():
        sources["dvc.lock"], expected["dvc.lock"] = ("sha256.dvc.lock", lock), lineage.sha256(lock)
    for name, (tag, local) in sources.items():
        if run.data.tags.get(tag) != expected[name] and local.exists() and lineage.sha256(local) == expected[name]:
            _log_content(client, run.info.run_id, name, local.read_bytes())
            client.set_tag(run.info.run_id, tag, expected[name])


def _add_model(client: MlflowClient, run: Run, trained: Record, folder: Path, registers: bool) -> None:
    """The run's MLflow model, once its weights are at hand; registered as <data>-<model> in the main checkout."""
    assert trained.model is not None
    weights_path = storage.weights_path(trained.model)
    weights, weights_md5 = _beside(folder, weights_path), trained.weights_md5[trained.model]
    model_id = run.data.tags.get("model_id")
    if model_id is None:
        if not weights.exists() or lineage.md5(weights) != weights_md5:
            return
        from pipeline.serving import save_served  # with it comes torch

        model = client.create_logged_model(
            run.info.experiment_id, "vae", run.info.run_id, tags={WEIGHTS_TAG: weights_md5}, params=run.data.params
        )
        with tempfile.TemporaryDirectory() as temporary:
            save_served(Path(temporary, "model"), weights, run.info.run_id, model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(temporary, "model")))
        client.finalize_logged_model(model.model_id, "READY")
        model_id = model.model_id
        client.set_tag(run.info.run_id, "model_id", model_id)
    if registers:
        _register(client, f"{trained.data_name}-{trained.model}", model_id, run, weights_md5)


def _register(client: MlflowClient, name: str, model_id: str, run: Run, weights_md5: str) -> None:
    """A new version unless the newest one has these weights: models:/<name>@latest is what the main checkout has."""
    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(name, description="A VAE; tasks: reconstruct, encode, decode, sample.")
    versions = client.search_model_versions(f"name = '{name}'")
    newest = max(versions, key=lambda version: int(version.version), default=None)
    if newest is None or newest.tags.get(WEIGHTS_TAG) != weights_md5:
        tags = {WEIGHTS_TAG: weights_md5}
        client.create_model_version(name, f"models:/{model_id}", run.info.run_id, tags, model_id=model_id)


def _create_run(client: MlflowClient, record: Record, restores: str | None = None) -> Run:
    """A new run for a training record; `restores` is the run that was lost."""
    tags = {
        "model": str(record.model),
        "dvc.stage": record.stage,
        "dvc.exp": record.experiment or "",
        "data.name": record.data_name,
        "data.md5": record.data_md5 or "",
        "git.commit": record.commit or "",
        "git.dirty": str(record.dirty),
        "mlflow.source.name": f"python -m pipeline.train {record.model}",
        "mlflow.source.type": "LOCAL",
        "mlflow.runColor": COLORS[str(record.model)],
        "mlflow.note.content": f"{record.model} VAE on {record.data_name}, kl_weight "
        f"{record.parameters['kl_weight']:g}, {record.parameters['likelihood']} likelihood; "
        f"made by DVC stage {record.stage}.",
    }
    if restores:
        tags |= {ORIGINAL_TAG: restores, "original.started": record.started, "original.ended": record.ended}
    run = client.create_run(
        experiment_id(client, record.data_name),
        start_time=_milliseconds(record),
        tags={key: value for key, value in tags.items() if value},
        run_name=record.name,
    )
    parameters = {"model": record.model, **record.parameters}
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    dataset = Dataset(record.data_name, (record.data_md5 or "")[:8], "local", '{"uri": "data/images.safetensors"}')
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    _log_content(client, run.info.run_id, "params.yaml", record.params_file.encode())
    return run


def _log_history(
    client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, float]], timestamp: int | None = None
) -> None:
    for row in rows:
        now = timestamp if timestamp is not None else _now()
        step = int(row["epoch"])
        client.log_batch(run_id, [Metric(key, float(value), now, step) for key, value in row.items() if key != "epoch"])


def _log_content(client: MlflowClient, run_id: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))


def _beside(folder: Path, path: Path) -> Path:
    """Where a record's file lies when its folder of records was copied: demo/runs stands for reports/runs."""
    if path.is_relative_to(storage.REPORTS):
        return folder.parent / path.relative_to(storage.REPORTS)
    return folder.parent.parent / path


def _milliseconds(record: Record, later: float = 0.0) -> int:
    return int((datetime.fromisoformat(record.started).timestamp() + later) * 1000)


def _now() -> int:
    return int(datetime.now().timestamp() * 1000)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
