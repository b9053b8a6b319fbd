"""How does a training become a run in MLflow? Created, described, and logged epoch by epoch while it trains."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import InputError
from pipeline.tracking.checkpoints import is_held
from pipeline.tracking.records import Record
from pipeline.tracking.store import DATABASE, ORIGINAL_TAG, WEIGHTS_TAG, database, experiment_id, open_store, store_uri

if TYPE_CHECKING:
    import numpy as np

COLORS = {"fc": "#d95f02", "conv": "#1b9e77"}  # of a model's runs on shared charts
LOCK_TAG = "training.lock"  # of a run: the host and the file that is locked while the training is under way
REASON_TAG = "status.reason"
_warned = False


def lock_tag(lock: Path) -> str:
    return f"{socket.gethostname()}:{lock}"


def create_run(client: MlflowClient, record: Record, restores: str | None = None, lock: Path | None = None) -> Run:
    """A new run for a training record: of one under way that holds `lock`, or in place of the run `restores`."""
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
        "mlflow.source.name": f"python -m pipeline {command}",
        "mlflow.source.type": "LOCAL",
        "mlflow.runColor": COLORS[str(record.model)],
        "mlflow.note.content": f"{record.model} VAE on {record.data_name}, kl_weight "
        f"{record.parameters['kl_weight']:g}, {record.parameters['likelihood']} likelihood; "
        f"made by DVC stage {record.stage}.",
    }
    if lock:
        tags[LOCK_TAG] = lock_tag(lock)
    if restores:
        tags |= {ORIGINAL_TAG: restores, "original.started": record.started, "original.ended": record.ended}
    return client.create_run(
        experiment_id(client, record.mlflow_experiment),
        start_time=milliseconds(record),
        tags={key: value for key, value in tags.items() if value},
        run_name=record.name,
    )


def describe_run(client: MlflowClient, run_id: str, record: Record) -> None:
    """Parameters, data set and params.yaml of a training."""
    dataset = Dataset(record.data_name, (record.data_md5 or "")[:8], "local", '{"uri": "data/images.safetensors"}')
    used = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run_id, used)
    except Exception:  # another process has just added the same data set, which MLflow finds now
        client.log_inputs(run_id, used)
    client.log_dict(run_id, dict(record.parameters), "params.yaml")
    parameters = {"model": record.model, **record.parameters}  # last: a run that has them is described
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])


def log_history(
    client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, float]], timestamp: int | None = None
) -> None:
    for row in rows:
        time = timestamp if timestamp is not None else now()
        step = int(row["epoch"])
        client.log_batch(
            run_id, [Metric(key, float(value), time, step) for key, value in row.items() if key != "epoch"]
        )


def last_epoch(client: MlflowClient, run_id: str) -> int:
    """The last epoch that a run has metrics of; 0 for none."""
    return int(max((metric.step for metric in client.get_metric_history(run_id, "train/elbo")), default=0))


def end_abandoned(client: MlflowClient, own_lock: Path | None = None, own_run: str | None = None) -> None:
    """End the runs that say RUNNING though the process that trained on this machine under their lock is gone.

    One that holds `own_lock` says so, since of all runs under it only `own_run` is still under way.
    """
    host = f"{socket.gethostname()}:"
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=50_000):
        tag = run.data.tags.get(LOCK_TAG, "")
        lock = Path(tag.removeprefix(host))
        if not tag.startswith(host) or run.info.run_id == own_run:
            continue
        gone = lock == own_lock or not is_held(lock)
        if gone and client.get_run(run.info.run_id).info.status == "RUNNING":  # it may have ended just now
            client.set_tag(run.info.run_id, REASON_TAG, "its process is gone")
            client.set_terminated(run.info.run_id, "KILLED")


def log_content(client: MlflowClient, run_id: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))


def milliseconds(record: Record, later: float = 0.0) -> int:
    return int((datetime.fromisoformat(record.started).timestamp() + later) * 1000)


def now() -> int:
    return int(datetime.now().timestamp() * 1000)


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def warn_once(message: str) -> None:
    """Once in a process: what comes after the first is the same trouble."""
    global _warned
    if not _warned:
        print(f"warning: {message}", file=sys.stderr)
    _warned = True


class LiveRun:
    """The MLflow run of a training under way, written by a thread of its own, so that a slow store does not delay it.

    What cannot be logged then is left to `sync`, with one warning.
    """

    def __init__(self, record: Record, lock: Path) -> None:
        """`lock` is held while the training is under way."""
        self._record, self._lock = record, lock
        self._logged = 0  # epochs
        self._client: MlflowClient | None = None
        self._writer = ThreadPoolExecutor(1, "mlflow")

    def open(self) -> None:
        """Begin a new run, or go on in the one that the record names, with what it lacks of the record's history.

        InputError when MLFLOW_TRACKING_URI names a server that does not answer: nothing is trained in vain.
        """
        record = self._record
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
            with contextlib.suppress(MlflowException):  # of runs that are another user's
                end_abandoned(self._client, self._lock, record.run_id)
            run = self._earlier_run(self._client)
            if run is None:
                run = create_run(self._client, record, lock=self._lock)
            elif WEIGHTS_TAG not in run.data.tags:  # else it was killed when all but the stage's end was done
                self._client.set_tag(run.info.run_id, LOCK_TAG, lock_tag(self._lock))  # the checkout may have moved
                self._client.update_run(run.info.run_id, status="RUNNING")
                self._client.set_tag(run.info.run_id, REASON_TAG, "")
            record.run_id = run.info.run_id
            if "kl_weight" not in run.data.params:
                describe_run(self._client, record.run_id, record)
            self._logged = last_epoch(self._client, record.run_id)
            log_history(self._client, record.run_id, [row for row in record.history if row["epoch"] > self._logged])

    def log_epoch(self, metrics: Mapping[str, float], images: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Metrics and images [H, W, 3] uint8 of an epoch, at that step; returns at once."""
        self._writer.submit(self._log_epoch, metrics, images)

    def end(self, status: str, reason: str) -> None:
        self._writer.submit(self._end, status, reason)

    def close(self) -> None:
        """Wait for what is still to be written."""
        self._writer.shutdown()

    def _earlier_run(self, client: MlflowClient) -> Run | None:
        """The run of a training that is resumed, unless it was deleted or is in another store or experiment."""
        if self._record.run_id is None:
            return None
        try:
            run = client.get_run(self._record.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        belongs = client.get_experiment(run.info.experiment_id).name == self._record.mlflow_experiment
        return run if belongs and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None

    def _log_epoch(self, metrics: Mapping[str, float], images: Mapping[str, np.ndarray[Any, Any]]) -> None:
        with self._best_effort():
            if self._client and self._record.run_id and metrics["epoch"] > self._logged:
                log_history(self._client, self._record.run_id, [metrics])
                for key, image in images.items():
                    self._client.log_image(self._record.run_id, image, key=key, step=int(metrics["epoch"]))

    def _end(self, status: str, reason: str) -> None:
        with self._best_effort():
            if self._record.run_id:
                client = self._client or open_store()  # it may be back
                if reason:
                    client.set_tag(self._record.run_id, REASON_TAG, reason[:500])
                client.set_terminated(self._record.run_id, status)

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            warn_once(f"MLflow cannot be reached, training goes on; `make ui` catches up later: {one_line(error)}")
            self._client = None


@contextlib.contextmanager
def live_run(record: Record, lock: Path) -> Iterator[LiveRun]:
    """A run that ends as the block does, with the reason when that is not well."""
    run = LiveRun(record, lock)
    try:
        run.open()
        yield run
    except (KeyboardInterrupt, SystemExit) as stop:
        run.end("KILLED", f"{type(stop).__name__} {stop}".strip())
        raise
    except BaseException as error:
        run.end("FAILED", one_line(error))
        raise
    else:
        run.end("FINISHED", "")
    finally:
        run.close()
