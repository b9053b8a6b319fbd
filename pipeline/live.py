"""How is a training watched in MLflow while it is under way? Best effort: it never waits for the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import InputError
from pipeline.records import Record
from pipeline.runs import (
    LOCK_TAG,
    REASON_TAG,
    create_run,
    describe_run,
    end_abandoned,
    last_epoch,
    lock_tag,
    log_history,
    one_line,
    warn_once,
)
from pipeline.store import DATABASE, WEIGHTS_TAG, database, open_store, store_uri

if TYPE_CHECKING:
    import numpy as np


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

    def log_epoch(self, metrics: Mapping[str, float], pictures: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Metrics and pictures [H, W, 3] uint8 of an epoch, at that step; returns at once."""
        self._writer.submit(self._log_epoch, metrics, pictures)

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

    def _log_epoch(self, metrics: Mapping[str, float], pictures: Mapping[str, np.ndarray[Any, Any]]) -> None:
        with self._best_effort():
            if self._client and self._record.run_id and metrics["epoch"] > self._logged:
                log_history(self._client, self._record.run_id, [metrics])
                for key, picture in pictures.items():
                    self._client.log_image(self._record.run_id, picture, key=key, step=int(metrics["epoch"]))

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
