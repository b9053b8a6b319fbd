"""How do results reach MLflow? Live while training, best effort; then `sync` makes the store equal to the records."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline import lineage, storage
from pipeline.records import Record, load_records

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    import numpy as np

ARTIFACTS = "mlartifacts"
DATABASE = "mlflow.db"
FIGURES_TAG = "figures.sha256"
UNTRACKED = "untracked"  # stands for the run of a training that MLflow never saw
COLORS = {"fc": "#d95f02", "conv": "#1b9e77"}  # of a model's runs on shared charts
DESCRIPTION = "FC and conv VAEs on {name}. The chart view compares them: the slider under the pictures picks the epoch."


def store_uri() -> str:
    """MLFLOW_TRACKING_URI when set, else an SQLite database at the root of the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage.main_checkout() / DATABASE}"


def _is_local() -> bool:
    return not os.environ.get("MLFLOW_TRACKING_URI")


def open_store() -> MlflowClient:
    """A client of the store, which is created when it does not exist yet."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    if _is_local():
        _create_database(lineage.main_checkout() / DATABASE)
    return MlflowClient(store_uri())


def _create_database(path: Path) -> None:
    """Create the database beside its place and link it there: several processes at once cannot see half of it."""
    if path.exists():
        return
    private = path.with_name(f"{path.name}.{os.getpid()}.partial")
    MlflowClient(f"sqlite:///{private}").search_experiments(max_results=1)  # runs MLflow's migrations
    with contextlib.closing(sqlite3.connect(private)) as database:
        database.execute("PRAGMA journal_mode=wal")  # readers and several writers do not block each other
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with contextlib.suppress(FileExistsError):
        os.link(private, path)
    for leftover in path.parent.glob(f"{private.name}*"):
        leftover.unlink()


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name, created on first use."""
    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    location = (lineage.main_checkout() / ARTIFACTS / quote(name)).as_uri() if _is_local() else None
    try:
        created = client.create_experiment(name, artifact_location=location)
        client.set_experiment_tag(created, "mlflow.note.content", DESCRIPTION.format(name=name))
        return str(created)
    except MlflowException:  # another process was faster
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise


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
    """Make the store tell what the records of `folder` tell; what it tells already is left as it is. Best effort."""
    records = load_records(folder)
    try:
        client = open_store()
        for trained in records:
            if trained.stage.startswith("train@"):
                for run in _finished_runs(client, trained, folder):
                    _add_results(client, run, trained, records, folder)
    except Exception as error:
        _warn(f"MLflow could not be updated, the records are kept; `make ui` catches up later: {_one_line(error)}")


def _finished_runs(client: MlflowClient, trained: Record, folder: Path) -> Sequence[Run]:
    """All runs with the weights of a training record, its own among them: finished now, or rebuilt when lost."""
    assert trained.model is not None
    weights_md5 = trained.weights_md5[trained.model]
    experiment = experiment_id(client, trained.data_name)
    same_weights = client.search_runs([experiment], f"tags.`weights.md5` = '{weights_md5}'")
    own = trained.run_id or UNTRACKED
    if any(own in (run.info.run_id, run.data.tags.get("restored_from")) for run in same_weights):
        return same_weights
    try:
        run = client.get_run(own)
    except MlflowException:
        run = _create_run(client, trained, restored_from=own)
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        print(f"note: run {run.info.run_name} ({run.info.run_id}) was deleted in MLflow and stays deleted")
        return same_weights
    run_id = run.info.run_id
    logged = int(max((metric.step for metric in client.get_metric_history(run_id, "train/elbo")), default=0))
    _log_history(client, run_id, [row for row in trained.history if row["epoch"] > logged], _milliseconds(trained))
    for path in (storage.weights_path(trained.model), storage.CURVES / f"{trained.model}.csv"):
        local = _beside(folder, path)
        if local.exists() and lineage.sha256(local) == trained.outputs[path.as_posix()]["sha256"]:
            client.log_artifact(run_id, str(local))
    client.set_terminated(run_id, "FINISHED", end_time=_milliseconds(trained, trained.seconds))
    client.set_tag(run_id, "weights.md5", weights_md5)  # last: what has it is complete
    return [*same_weights, client.get_run(run_id)]


def _add_results(client: MlflowClient, run: Run, trained: Record, records: Iterable[Record], folder: Path) -> None:
    """Evaluation and figures of the weights that `trained` made, on one of their runs."""
    assert trained.model is not None
    weights_md5 = trained.weights_md5[trained.model]
    for record in records:
        if record is trained or record.weights_md5.get(trained.model) != weights_md5:
            continue
        changed = {key: value for key, value in record.metrics.items() if run.data.metrics.get(key) != value}
        if changed:  # at step 0: MLflow draws bars for metrics that have no other
            now = _milliseconds(record, record.seconds)
            client.log_batch(run.info.run_id, [Metric(key, value, now, 0) for key, value in changed.items()])
        shown = json.loads(run.data.tags.get(FIGURES_TAG, "{}"))
        missing = {}
        for path, hashes in record.outputs.items():
            figure = Path(path)
            owner, _, name = figure.stem.partition("_")
            if figure.suffix != ".png" or (owner in ("fc", "conv") and owner != trained.model):
                continue
            artifact = f"{name if owner == trained.model else figure.stem}.png"  # one name for both models
            local = _beside(folder, figure)
            if shown.get(artifact) != hashes["sha256"] and local.exists():
                _log_artifact_as(client, run.info.run_id, local, artifact)
                missing[artifact] = hashes["sha256"]
        if missing:
            client.set_tag(run.info.run_id, FIGURES_TAG, json.dumps(shown | missing, sort_keys=True))


def _create_run(client: MlflowClient, record: Record, restored_from: str | None = None) -> Run:
    kl_weight = f"{record.parameters['kl_weight']:g}"
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
        "mlflow.note.content": f"{record.model} VAE on {record.data_name}, kl_weight {kl_weight}, "
        f"{record.parameters['likelihood']} likelihood; made by DVC stage {record.stage}.",
    }
    if restored_from:
        tags["restored_from"] = restored_from
    run = client.create_run(
        experiment_id(client, record.data_name),
        start_time=_milliseconds(record),
        tags={key: value for key, value in tags.items() if value},
        run_name=" ".join(part for part in (record.model, f"kl={kl_weight}", record.experiment) if part),
    )
    parameters = {"model": record.model, **record.parameters}
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    dataset = Dataset(record.data_name, (record.data_md5 or "")[:8], "local", '{"uri": "data/images.safetensors"}')
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return run


def _log_history(
    client: MlflowClient, run_id: str, rows: Sequence[Mapping[str, float]], timestamp: int | None = None
) -> None:
    for row in rows:
        now = timestamp if timestamp is not None else _now()
        step = int(row["epoch"])
        client.log_batch(run_id, [Metric(key, float(value), now, step) for key, value in row.items() if key != "epoch"])


def _beside(folder: Path, path: Path) -> Path:
    """Where a record's file lies when its folder of records was copied: demo/runs stands for reports/runs."""
    if path.is_relative_to(storage.REPORTS):
        return folder.parent / path.relative_to(storage.REPORTS)
    return folder.parent.parent / path


def _log_artifact_as(client: MlflowClient, run_id: str, path: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        renamed = Path(folder, name)
        renamed.write_bytes(path.read_bytes())
        client.log_artifact(run_id, str(renamed))


def comparison_path(client: MlflowClient) -> str | None:
    """The page of the MLflow UI that charts the newest run of each model of the newest experiment; None without runs.

    The layout (pictures at the last epoch, curves, test metrics) is a view that MLflow keeps in an experiment tag.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    ours, newest_first = "attributes.status = 'FINISHED' AND tags.dvc.stage LIKE 'train@%'", ["start_time DESC"]
    runs = client.search_runs(experiments, ours, order_by=newest_first, max_results=1)
    if not runs:
        return None
    experiment = runs[0].info.experiment_id
    newest: dict[str, Run] = {}
    for run in client.search_runs([experiment], ours, order_by=newest_first):
        newest.setdefault(run.data.tags["model"], run)
    view = json.dumps(_comparison_view(list(newest.values())))
    client.set_experiment_tag(experiment, "mlflow.sharedViewState.comparison", view)
    query = "viewStateShareKey=comparison&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment}/runs?{query}"


def _comparison_view(runs: Sequence[Run]) -> dict[str, Any]:
    """MLflow 3's state of the chart view: which runs, which sections in which order, and the pictures' cards."""
    last_epoch = min(int(run.data.params["train.epochs"]) for run in runs)
    generated: dict[str, Any] = {"deleted": False, "isGenerated": True}
    card = {"type": "IMAGE", "metricSectionId": "pictures", "step": last_epoch, "showRunParams": False}
    card |= {"runsCountToCompare": 10} | generated
    sections = ("pictures", "validation", "test", "train", "Model metrics", "System metrics")
    return {
        "compareRunCharts": [
            card | {"uuid": f"chart-{key}", "imageKeys": [key]} for key in ("samples", "reconstructions")
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": "metrics" not in name, "isReordered": False}
            | generated
            | ({"columns": 2, "cardHeight": 640} if name == "pictures" else {})
            for name in sections
        ],
        "isAccordionReordered": True,
        "searchFilter": f"attributes.run_id IN ({', '.join(repr(run.info.run_id) for run in runs)})",
        "selectedColumns": ["params.`model`", "params.`kl_weight`", "metrics.`test/elbo`", "metrics.`test/psnr`"],
    }


def _milliseconds(record: Record, later: float = 0.0) -> int:
    return int((datetime.fromisoformat(record.started).timestamp() + later) * 1000)


def _now() -> int:
    return int(datetime.now().timestamp() * 1000)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
