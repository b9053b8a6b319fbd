"""Where are MLflow's runs? On a server, or in an SQLite database and a folder that survive races and moves."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking import lineage
from pipeline.tracking.lineage import ARTIFACTS, StoredRun, database, store_uri

ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)  # of a store; those of requests are OSErrors
ANSWER_SECONDS = 5.0  # for a server to show that it is there
DESCRIPTION = "FC and conv VAEs on {name}. The chart view compares them: the slider under the images picks the epoch."
COMPLETE = [f"tags.`{tag}` LIKE '%'" for tag in (lineage.WEIGHTS_TAG, lineage.RECORD_TAG)]
MOST = 50_000  # runs that MLflow gives at once


def open_store() -> MlflowClient:
    """A client of the store, which is created when it does not exist; InputError for a server that does not answer."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    path = database()
    if path is None:
        _knock(store_uri())
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or _moved_from(path):
            with exclusively():  # another process may have done it meanwhile
                if path.exists() and (root := _moved_from(path)):
                    _set_aside(path, root)
                if not path.exists():
                    _create(path)
    return MlflowClient(store_uri(), store_uri())


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name, created on first use, and brought back for a new run when it was deleted."""
    if experiment := client.get_experiment_by_name(name):
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            client.restore_experiment(experiment.experiment_id)
            print(f"note: experiment {name} was deleted in MLflow; it is back with its runs, for the new one")
        return str(experiment.experiment_id)
    path = database()
    try:
        created = client.create_experiment(name, artifact_folder(path, name).as_uri() if path else None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return experiment_id(client, name)  # another process was faster
    client.set_experiment_tag(created, "mlflow.note.content", DESCRIPTION.format(name=name))
    return str(created)


def artifact_folder(path: Path, experiment: str) -> Path:
    """Where the artifacts of an experiment lie, beside the database at `path`."""
    return path.parent / ARTIFACTS / experiment


@contextlib.contextmanager
def exclusively() -> Iterator[None]:
    """One process at a time changes what the store tells of records; a server's other users cannot be kept out."""
    path = database()
    with FileLock(path.with_name(f"{path.name}.lock")) if path else contextlib.nullcontext():
        yield


def stored_runs(client: MlflowClient | None = None) -> list[StoredRun]:
    """All complete runs of the store: first the trainings, then the stages that drew images, each oldest first."""
    client = client or open_store()
    experiments, order = experiment_ids(client), ["start_time ASC"]
    runs = [run for tag in COMPLETE for run in client.search_runs(experiments, tag, order_by=order, max_results=MOST)]
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


def experiment_ids(client: MlflowClient) -> list[str]:
    """The ids of all experiments."""
    return [experiment.experiment_id for experiment in client.search_experiments()]


def is_outage(error: BaseException) -> bool:
    """Whether one of ERRORS says that the store as a whole does not answer, rather than that it refuses a request."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code()) >= 500
    return isinstance(error, SQLAlchemyError | sqlite3.Error)


def _knock(uri: str) -> None:
    """InputError at once where MLflow's own client would try for minutes; asked as that asks, with its settings."""
    scheme, advice = urlsplit(uri).scheme, "mend the address"
    try:
        if scheme in ("http", "https"):
            advice = "start the server"
            failures = range(500, 600)  # anything else comes from a server that works, if only for those it knows
            host = get_default_host_creds(uri)
            http_request(host, "/health", "GET", max_retries=0, retry_codes=failures, timeout=ANSWER_SECONDS)
        else:
            if scheme.partition("+")[0] in DATABASE_ENGINES:
                create_sqlalchemy_engine(uri).connect().close()  # MLflow tries ten times
            MlflowClient(uri, uri).search_experiments(max_results=1)
    except (*ERRORS, ImportError, ValueError) as error:  # a driver that is not installed, an address that is none
        raise InputError(
            f"MLFLOW_TRACKING_URI: {uri} does not answer ({' '.join(str(error).split())}); "
            f"{advice}, or unset the variable to use {lineage.DATABASE}"
        ) from None


def _create(path: Path) -> None:
    """Create the database under another name, so that none sees half of it, not even after a kill."""
    with storage.replacing(path) as partial:  # where no file can be made this fails, MLflow would try ten times
        _close(partial, path.parent / ARTIFACTS)
        with contextlib.closing(sqlite3.connect(partial)) as connection:
            connection.execute("PRAGMA journal_mode=wal")  # readers and several writers do not block each other
    if index := lineage.stored_runs_path():  # of a database that was here before
        index.unlink(missing_ok=True)


def _close(path: Path, artifacts: Path) -> None:
    """Let MLflow make the database, if there is none, and close its connections, which a process has but once."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(lineage.sqlite_uri(path), artifacts.as_uri()).engine.dispose()


def _moved_from(path: Path) -> Path | None:
    """Where the database was before it was moved or copied with its artifacts, to whose old places it leads; or None.

    What is not called as this module calls it is another program's and stays as it is.
    """
    for experiment in MlflowClient(store_uri(), store_uri()).search_experiments():
        location = urlsplit(experiment.artifact_location or "")
        root, found, rest = unquote(location.path).partition(f"/{ARTIFACTS}/")
        elsewhere = found and Path(root).resolve() != path.parent.resolve()
        if location.scheme == "file" and elsewhere and (path.parent / ARTIFACTS / rest).exists():
            return Path(root)
    return None


def _set_aside(path: Path, root: Path) -> None:
    _close(path, path.parent / ARTIFACTS)
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{aside}{suffix}")
    print(f"note: {path.name} came here from {root}; it is kept as {aside.name}, a new one is made from the records")
