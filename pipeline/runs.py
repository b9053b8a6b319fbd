"""How does the record of a training become a run in MLflow? Created, described, and logged epoch by epoch."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.tracking import MlflowClient

from pipeline.checkpoints import is_held
from pipeline.records import Record
from pipeline.store import ORIGINAL_TAG, experiment_id

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
    if record.params_file:
        log_content(client, run_id, "params.yaml", record.params_file.encode())
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
