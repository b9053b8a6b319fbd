"""Where are MLflow's runs? On a server, or in an SQLite database and a folder that survive races and moves."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import logging
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.tracking.lineage import (
    ARTIFACTS,
    DATABASE,
    ORIGINAL_TAG,
    STUDY_SUFFIX,
    UNTRACKED,
    WEIGHTS_TAG,
    StoredRun,
    database,
    store_uri,
)

__all__ = ["ARTIFACTS", "DATABASE", "ORIGINAL_TAG", "UNTRACKED", "WEIGHTS_TAG", "StoredRun", "database", "store_uri"]

ANSWER_SECONDS = 5.0  # for a server to show that it is there
DESCRIPTION = "FC and conv VAEs on {name}. The chart view compares them: the slider under the images picks the epoch."
LOCATIONS = (  # the columns in which MLflow keeps absolute addresses of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def open_store() -> MlflowClient:
    """A client of the store, which is created when it does not exist yet; OSError for a server that does not answer."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    path = database()
    if path is None:
        _knock(store_uri())
    else:
        _create(path)
        _follow(path)
    return MlflowClient(store_uri(), store_uri())


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name, created on first use, and brought back for a new run when it was deleted."""
    if experiment := client.get_experiment_by_name(name):
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            client.restore_experiment(experiment.experiment_id)
            print(f"note: experiment {name} was deleted in MLflow; it is back with its runs, for the new one")
        return str(experiment.experiment_id)
    path = database()
    location = f"{_artifacts(path)}/{quote(name)}" if path else None
    try:
        created = client.create_experiment(name, artifact_location=location)
        client.set_experiment_tag(created, "mlflow.note.content", DESCRIPTION.format(name=name))
        return str(created)
    except MlflowException:  # another process was faster
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise


@contextlib.contextmanager
def exclusively() -> Iterator[None]:
    """One process at a time changes what the store tells of records; a server's other users cannot be kept out."""
    path = database()
    if path is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stored_runs() -> list[StoredRun]:
    """All complete runs, oldest first; none where there is no store, OSError where a server does not answer."""
    path = database()
    if path is not None and not path.exists():
        return []
    client = open_store()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    complete = f"tags.`{WEIGHTS_TAG}` LIKE '%'"
    runs = client.search_runs(experiments, complete, order_by=["start_time ASC"], max_results=50_000)
    return [
        StoredRun(
            run.info.run_id, run.info.run_name, f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}",
            datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="milliseconds"),
            dict(run.data.params), dict(run.data.tags),
        )
        for run in runs
    ]  # fmt: skip


def model_file(run: StoredRun, path: str) -> Path:
    """A file of the run's MLflow model, brought here when the store is a server."""
    folder = open_store().get_logged_model(run.tags["model_id"]).artifact_location
    return Path(download_artifacts(artifact_uri=f"{folder}/{path}", tracking_uri=store_uri()))


def newest_runs(client: MlflowClient) -> list[Run]:
    """The newest complete run of each model, in the experiment of the newest run of all; the study's do not count."""
    experiments = [
        experiment.experiment_id
        for experiment in client.search_experiments()
        if not experiment.name.endswith(STUDY_SUFFIX)
    ]
    complete, newest_first = f"tags.`{WEIGHTS_TAG}` LIKE '%'", ["start_time DESC"]
    first = client.search_runs(experiments, complete, order_by=newest_first, max_results=1)
    newest: dict[str, Run] = {}
    for run in client.search_runs([run.info.experiment_id for run in first], complete, order_by=newest_first):
        newest.setdefault(run.data.params["model"], run)
    return list(newest.values())


def _artifacts(path: Path) -> str:
    return (path.parent / ARTIFACTS).as_uri()


def _knock(uri: str) -> None:
    """OSError at once where MLflow's own client would try for minutes."""
    try:
        address = urlsplit(uri)
        host = address.netloc.rpartition("@")[2]  # urllib takes no credentials there
        health = f"{address.scheme}://{host}{address.path.rstrip('/')}/health"
        with urllib.request.urlopen(health, timeout=ANSWER_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:  # anything else comes from a server that works, if only for those whom it knows
            raise OSError(f"{uri}: {error}") from None
    except (ValueError, http.client.HTTPException) as error:
        raise OSError(f"MLFLOW_TRACKING_URI: {error}") from None


def _create(path: Path) -> None:
    """Create the database beside its place and link it there: several processes at once cannot see half of it."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.with_name(f"{path.name}.{os.getpid()}.partial")
    MlflowClient(f"sqlite:///{private}").search_experiments(max_results=1)  # runs MLflow's migrations
    with contextlib.closing(sqlite3.connect(private)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # readers and several writers do not block each other
        with connection:  # MLflow's own experiment would keep its artifacts wherever this process runs
            connection.execute("UPDATE experiments SET artifact_location = ?", (f"{_artifacts(path)}/Default",))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with contextlib.suppress(FileExistsError):
        os.link(private, path)
    for leftover in path.parent.glob(f"{private.name}*"):
        leftover.unlink()


def _follow(path: Path) -> None:
    """Let a database that was moved or copied with its artifacts point to where they are now."""
    here = path.parent / ARTIFACTS
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection, connection:
        for (location,) in connection.execute("SELECT artifact_location FROM experiments").fetchall():
            root, found, rest = (location or "").partition(f"/{ARTIFACTS}/")
            old, new = f"{root}{found}", f"{here.as_uri()}/"
            if not (found and root.startswith("file:") and old != new and (here / unquote(rest)).exists()):
                continue
            for table, column in LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, len(old), old),
                )
