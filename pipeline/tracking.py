"""How do results reach MLflow? Live while training, best effort; then `sync` makes the store equal to the records."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.records import Record, beside, load_records, lock_beside, locked_beside
from pipeline.store import (
    DATABASE,
    ORIGINAL_TAG,
    UNTRACKED,
    WEIGHTS_TAG,
    database,
    exclusively,
    experiment_id,
    open_store,
    store_uri,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy as np

MOST_VERSIONS = 100  # a tag holds 8,000 characters
_warned = False
COLORS = {"fc": "#d95f02", "conv": "#1b9e77"}  # of a model's runs on shared charts


class LiveRun:
    """The MLflow run of a training under way, written by a thread of its own, so that a slow store does not delay it.

    What cannot be logged then is left to `sync`, with one warning.
    """

    def __init__(self, record: Record) -> None:
        """InputError when MLFLOW_TRACKING_URI names a server that does not answer: nothing is trained in vain."""
        self._record = record
        self._client: MlflowClient | None = None
        self._writer = ThreadPoolExecutor(1, "mlflow")
        with self._best_effort():
            try:
                self._client = open_store()
            except OSError as error:
                if database() is not None:
                    raise
                raise InputError(
                    f"MLFLOW_TRACKING_URI: {store_uri()} does not answer ({error}); start the server, or unset the "
                    f"variable to use {DATABASE}"
                ) from None
            record.run_id = _create_run(self._client, record).info.run_id
            _describe_run(self._client, record.run_id, record)

    def log_epoch(self, metrics: Mapping[str, float], pictures: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Metrics and pictures [H, W, 3] uint8 of an epoch, at that step; returns at once."""
        self._writer.submit(self._log_epoch, metrics, pictures)

    def end(self, status: str, reason: str) -> None:
        self._writer.submit(self._end, status, reason)

    def close(self) -> None:
        """Wait for what is still to be written."""
        self._writer.shutdown()

    def _log_epoch(self, metrics: Mapping[str, float], pictures: Mapping[str, np.ndarray[Any, Any]]) -> None:
        with self._best_effort():
            if self._client and self._record.run_id:
                _log_history(self._client, self._record.run_id, [metrics])
                for key, picture in pictures.items():
                    self._client.log_image(self._record.run_id, picture, key=key, step=int(metrics["epoch"]))

    def _end(self, status: str, reason: str) -> None:
        with self._best_effort():
            if self._client and self._record.run_id:
                self._client.set_tag(self._record.run_id, "status.reason", reason[:500])
                self._client.set_terminated(self._record.run_id, status)

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:
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
    finally:
        run.close()


def sync(folder: Path = storage.RUNS) -> None:
    """Make the store tell what the records of `folder` tell; what it tells already is left as it is. Best effort.

    Only the records of the main checkout and its study, not those of experiments in copies or of the demo, replace what
    a run with the same weights shows already; the study's register no models.
    """
    registers = folder.resolve() == lineage.main_checkout() / storage.RUNS
    leads = registers or folder.resolve().is_relative_to(lineage.main_checkout() / "study")
    try:
        records = load_records(folder)
        client = open_store()
    except Exception as error:
        _warn_later(error)
        return
    with exclusively():
        for trained in records:
            if trained.stage.startswith("train@"):
                try:
                    for run in _finished_runs(client, trained):
                        _add_metrics(client, run, trained, records, leads)
                        _add_artifacts(client, run, trained, records, folder, leads)
                        _add_model(client, run, trained, folder, registers)
                except Exception as error:
                    _warn_later(error)


def _finished_runs(client: MlflowClient, trained: Record) -> Sequence[Run]:
    """All runs with the weights of a training record, its own among them: finished now, or rebuilt when lost."""
    assert trained.model is not None
    known = client.get_experiment_by_name(trained.mlflow_experiment)
    if known and known.lifecycle_stage != LifecycleStage.ACTIVE:
        print(f"note: experiment {known.name} was deleted in MLflow and stays deleted")
        return []
    experiment, weights_md5 = experiment_id(client, trained.mlflow_experiment), trained.weights_md5[trained.model]
    own = _own_run(client, experiment, trained)
    if own.info.lifecycle_stage != LifecycleStage.ACTIVE:
        print(f"note: run {own.info.run_name} ({own.info.run_id}) was deleted in MLflow and stays deleted")
    elif WEIGHTS_TAG not in own.data.tags:
        _finish(client, own, trained)
    return client.search_runs([experiment], f"tags.`{WEIGHTS_TAG}` = '{weights_md5}'")


def _own_run(client: MlflowClient, experiment: str, trained: Record) -> Run:
    """The run of a training record, deleted ones included; a new one when the store has none."""
    name = trained.run_id or f"{UNTRACKED} {trained.started}"
    rebuilt = client.search_runs([experiment], f"tags.`{ORIGINAL_TAG}` = '{name}'", run_view_type=ViewType.ALL)
    if rebuilt:
        return rebuilt[0]
    if trained.run_id:
        try:
            return client.get_run(trained.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return _create_run(client, trained, restores=name)


def _finish(client: MlflowClient, run: Run, trained: Record) -> None:
    """Add what an interrupted, unreachable or lost store lacks of a training that ended well."""
    assert trained.model is not None
    run_id = run.info.run_id
    if "kl_weight" not in run.data.params:
        _describe_run(client, run_id, trained)
    logged = int(max((metric.step for metric in client.get_metric_history(run_id, "train/elbo")), default=0))
    _log_history(client, run_id, [row for row in trained.history if row["epoch"] > logged], _milliseconds(trained))
    client.set_terminated(run_id, "FINISHED", end_time=_milliseconds(trained, trained.seconds))
    client.set_tag(run_id, WEIGHTS_TAG, trained.weights_md5[trained.model])


def _add_metrics(client: MlflowClient, run: Run, trained: Record, records: Sequence[Record], leads: bool) -> None:
    """The evaluation of the run's weights."""
    for record in _users(trained, records):
        for key, value in record.metrics.items():
            found = run.data.metrics.get(key)
            if found is None or (leads and found != value):  # MLflow shows the value with the latest time
                now = _milliseconds(record, record.seconds) if found is None else _now()
                client.log_metric(run.info.run_id, key, value, now, step=0)  # step 0: bars, as for one value only


@dataclass(frozen=True)
class _Artifact:
    name: str  # at the root of the run's artifacts
    tag: str  # of the run, with the sha256 of every version that it had, the present one last
    path: Path
    sha256: str


def _artifacts(trained: Record, records: Sequence[Record], folder: Path) -> Iterator[_Artifact]:
    """Weights and curves of a training, the figures that show them, and the dvc.lock that names them."""
    assert trained.model is not None
    for path, hashes in trained.outputs.items():
        name = "curves.csv" if path.endswith(".csv") else Path(path).name
        yield _Artifact(name, f"sha256.{name}", beside(folder, Path(path)), hashes["sha256"])
    for record in _users(trained, records):
        for path, hashes in record.outputs.items():
            figure = Path(path)
            owner, _, kind = figure.stem.partition("_")
            others = {"fc", "conv"} - {trained.model}
            if figure.suffix == ".png" and owner not in others:
                name = f"{kind if owner == trained.model else figure.stem}.png"  # one name for both models
                yield _Artifact(name, f"figure.{figure.stem}", beside(folder, figure), hashes["sha256"])
    if trained.weights_md5[trained.model] in locked_beside(folder).values():
        lock = lock_beside(folder)
        assert lock is not None
        yield _Artifact("dvc.lock", "sha256.dvc.lock", lock, lineage.sha256(lock))


def _add_artifacts(
    client: MlflowClient, run: Run, trained: Record, records: Sequence[Record], folder: Path, leads: bool
) -> None:
    for artifact in _artifacts(trained, records, folder):
        had = run.data.tags.get(artifact.tag, "").split()
        replaces = leads and artifact.name != "dvc.lock"  # the run was made under the first that names its weights
        if artifact.sha256 in had[-1:] or (had and not replaces):
            continue
        if artifact.path.exists() and lineage.sha256(artifact.path) == artifact.sha256:
            _log_content(client, run.info.run_id, artifact.name, artifact.path.read_bytes())
            versions = [*(version for version in had if version != artifact.sha256), artifact.sha256]
            client.set_tag(run.info.run_id, artifact.tag, " ".join(versions[-MOST_VERSIONS:]))


def _users(trained: Record, records: Sequence[Record]) -> list[Record]:
    """The records of stages that used the weights which a training made."""
    assert trained.model is not None
    weights_md5 = trained.weights_md5[trained.model]
    return [other for other in records if other is not trained and other.weights_md5.get(trained.model) == weights_md5]


def _add_model(client: MlflowClient, run: Run, trained: Record, folder: Path, registers: bool) -> None:
    """The run's MLflow model, once its weights are at hand; registered as <data>-<model> in the main checkout."""
    assert trained.model is not None
    weights_path = storage.weights_path(trained.model)
    weights, weights_md5 = beside(folder, weights_path), trained.weights_md5[trained.model]
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
    command = f"study {record.cell}" if record.cell else f"train {record.model}"
    tags = {
        "model": str(record.model),
        "dvc.stage": record.stage,
        "dvc.exp": record.experiment or "",
        "study.cell": record.cell or "",
        "data.name": record.data_name,
        "data.md5": record.data_md5 or "",
        "git.commit": record.commit or "",
        "git.dirty": "" if record.dirty is None else str(record.dirty),
        "mlflow.source.name": f"python -m pipeline.{command}",
        "mlflow.source.type": "LOCAL",
        "mlflow.runColor": COLORS[str(record.model)],
        "mlflow.note.content": f"{record.model} VAE on {record.data_name}, kl_weight "
        f"{record.parameters['kl_weight']:g}, {record.parameters['likelihood']} likelihood; "
        f"made by DVC stage {record.stage}.",
    }
    if restores:
        tags |= {ORIGINAL_TAG: restores, "original.started": record.started, "original.ended": record.ended}
    return client.create_run(
        experiment_id(client, record.mlflow_experiment),
        start_time=_milliseconds(record),
        tags={key: value for key, value in tags.items() if value},
        run_name=record.name,
    )


def _describe_run(client: MlflowClient, run_id: str, record: Record) -> None:
    """Parameters, data set and params.yaml of a training."""
    parameters = {"model": record.model, **record.parameters}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    dataset = Dataset(record.data_name, (record.data_md5 or "")[:8], "local", '{"uri": "data/images.safetensors"}')
    used = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run_id, used)
    except Exception:  # another process has just added the same data set, which MLflow finds now
        client.log_inputs(run_id, used)
    if record.params_file:
        _log_content(client, run_id, "params.yaml", record.params_file.encode())


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


def _milliseconds(record: Record, later: float = 0.0) -> int:
    return int((datetime.fromisoformat(record.started).timestamp() + later) * 1000)


def _now() -> int:
    return int(datetime.now().timestamp() * 1000)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _warn_later(error: BaseException) -> None:
    reason = str(error) if isinstance(error, InputError) else _one_line(error)
    _warn(f"MLflow could not be updated, the records are kept; `make ui` catches up later: {reason}")


def _warn(message: str) -> None:
    """Once in a process: what comes after the first is the same trouble."""
    global _warned
    if not _warned:
        print(f"warning: {message}", file=sys.stderr)
    _warned = True
