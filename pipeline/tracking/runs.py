"""How does a training become a run in MLflow? Created as it begins, and told each epoch while it goes on."""

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Self

from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.time import get_current_time_millis

from pipeline.errors import printable
from pipeline.params import COLORS
from pipeline.storage import Arrays
from pipeline.tracking import store
from pipeline.tracking.checkpoints import is_held
from pipeline.tracking.lineage import ORIGINAL_TAG, WEIGHTS_TAG
from pipeline.tracking.records import Record

LOCK_TAG = "training.lock"  # of a run: the host and the file that is locked while the training is under way
REASON_TAG = "status.reason"
MOST_METRICS = 1000  # in one request
_warned = False


def create_run(client: MlflowClient, record: Record, restores: str | None = None, lock: Path | None = None) -> Run:
    """A new run for a training record: of one under way that holds `lock`, or in place of the run `restores`."""
    assert record.model is not None
    command = f"study {record.cell}" if record.cell else f"train {record.model}"
    tags = {
        "model": record.model,
        "dvc.stage": record.stage,
        "dvc.exp": record.experiment,
        "study.cell": record.cell,
        "data.name": record.data_name,
        "data.md5": record.data_md5,
        "git.commit": record.commit,
        "git.dirty": None if record.dirty is None else str(record.dirty),
        "mlflow.source.name": f"python -m pipeline {command}",
        "mlflow.source.type": "LOCAL",
        "mlflow.runColor": COLORS[record.model],
        "mlflow.note.content": f"{record.model} VAE on {record.data_name}, kl_weight "
        f"{record.parameters['kl_weight']:g}, {record.parameters['likelihood']} likelihood; "
        f"made by DVC stage {record.stage}.",
    }
    if lock:
        tags[LOCK_TAG] = lock_tag(lock)
    if restores:
        tags |= {ORIGINAL_TAG: restores, "original.started": record.started, "original.ended": record.ended}
    known = {key: value for key, value in tags.items() if value}
    experiment = store.experiment_id(client, record.mlflow_experiment)
    return client.create_run(experiment, milliseconds(record.started), known, record.name)


def catch_up(client: MlflowClient, run_id: str, record: Record, time: int) -> int:
    """Log what a run lacks of a training's parameters and epochs; return the last epoch that it had, 0 for none."""
    parameters = {"model": record.model, **record.parameters}  # those that it has already may come again
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    logged = int(max((metric.step for metric in client.get_metric_history(run_id, "train/elbo")), default=0))
    log_history(client, run_id, [row for row in record.history if row["epoch"] > logged], time)
    return logged


def log_history(client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, float]], time: int) -> None:
    """Metrics of some epochs, at their steps; an epoch's all at once, so that the last one in the store is whole."""
    at_once = MOST_METRICS // max(map(len, rows), default=1)
    for first in range(0, len(rows), at_once):
        metrics = [
            Metric(key, float(value), time, int(row["epoch"]))
            for row in rows[first : first + at_once]
            for key, value in row.items()
            if key != "epoch"
        ]
        client.log_batch(run_id, metrics)


def end_abandoned(client: MlflowClient, own_lock: Path | None = None, own_run: str | None = None) -> None:
    """End the runs that say RUNNING though the process that trained on this machine under their lock is gone.

    One that holds `own_lock` says so, since of all runs under it only `own_run` is still under way.
    """
    here, running = lock_tag(""), "attributes.status = 'RUNNING'"
    with contextlib.suppress(MlflowException):  # of runs that are another user's
        for run in client.search_runs(store.experiment_ids(client), running, max_results=store.MOST):
            tag = run.data.tags.get(LOCK_TAG, "")
            lock = Path(tag.removeprefix(here))
            gone = tag.startswith(here) and run.info.run_id != own_run and (lock == own_lock or not is_held(lock))
            if gone and client.get_run(run.info.run_id).info.status == "RUNNING":  # it may have ended just now
                client.set_tag(run.info.run_id, REASON_TAG, "its process is gone")
                client.set_terminated(run.info.run_id, "KILLED")


def lock_tag(lock: Path | str) -> str:
    """What tells a locked file from one of that name on another machine."""
    return f"{socket.gethostname()}:{lock}"


def milliseconds(time: str) -> int:
    """A time of a record in MLflow's unit."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def one_line(error: BaseException) -> str:
    """An error's kind and message, shortened."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


def warn_once(message: str) -> None:
    """Once in a process: what comes after the first is the same trouble."""
    global _warned
    if not _warned:
        print(f"warning: {message}", file=sys.stderr)
    _warned = True


class LiveRun:
    """The MLflow run of a training under way; what cannot be logged then is left to `sync`, with one warning.

    As a context it begins a new run, or goes on in the one that the record names, with what it lacks of the record's
    history; it ends the run as the block ends, with the reason when that is not well. InputError when
    MLFLOW_TRACKING_URI names a server that does not answer: nothing is trained in vain.

    A thread writes epoch after epoch, so that a slow store delays no training and a kill leaves no gap before the last
    one. MLflow's own queue writes them in any order, and would try each of them at a server that hangs.
    """

    def __init__(self, record: Record, lock: Path) -> None:
        """`lock` is held while the training is under way."""
        self._record, self._lock = record, lock
        self._logged = 0  # epochs
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._writer = ThreadPoolExecutor(1, "mlflow")
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> Self:
        try:
            with self._best_effort():
                self._begin(store.open_store())
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        def end(client: MlflowClient) -> None:
            if error:
                client.set_tag(self._run_id, REASON_TAG, one_line(error))
            client.set_terminated(self._run_id, status)

        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        self._later(end)
        self._writer.shutdown()
        for job in self._jobs:
            job.result()  # raises what is no trouble of the store but a mistake of ours

    def log_epoch(self, metrics: Mapping[str, float], images: Arrays) -> None:
        """Metrics and images [H, W, 3] uint8 of an epoch, at that step; returns at once."""

        def log(client: MlflowClient) -> None:
            if metrics["epoch"] > self._logged:
                log_history(client, self._run_id, [metrics], get_current_time_millis())
                for key, image in images.items():
                    client.log_image(self._run_id, image, key=key, step=int(metrics["epoch"]))

        self._later(log)

    def _begin(self, client: MlflowClient) -> None:
        record = self._record
        end_abandoned(client, self._lock, record.run_id)
        run = self._earlier_run(client)
        if run is None:
            run = create_run(client, record, lock=self._lock)
        elif WEIGHTS_TAG not in run.data.tags:  # else the run is complete and only the stage's end was interrupted
            client.set_tag(run.info.run_id, LOCK_TAG, lock_tag(self._lock))  # the checkout may have moved
            client.update_run(run.info.run_id, status="RUNNING")
            client.set_tag(run.info.run_id, REASON_TAG, "")
        record.run_id = self._run_id = run.info.run_id
        self._client = client  # what follows is logged now, since a training that fails leaves no record to `sync`
        self._logged = catch_up(client, self._run_id, record, get_current_time_millis())

    def _earlier_run(self, client: MlflowClient) -> Run | None:
        """The run of a training that is resumed, unless it was deleted or is in another store or experiment."""
        known, ours = client.get_experiment_by_name(self._record.mlflow_experiment), self._record.run_id
        found = client.search_runs([known.experiment_id], f"attributes.run_id = '{ours}'") if known and ours else []
        return found[0] if found else None

    def _later(self, write: Callable[[MlflowClient], None]) -> None:
        def job() -> None:
            if self._client:
                with self._best_effort():
                    write(self._client)

        self._jobs.append(self._writer.submit(job))

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except store.ERRORS as error:
            warn_once(f"MLflow cannot be reached, training goes on; `make ui` catches up later: {one_line(error)}")
            self._client = None
