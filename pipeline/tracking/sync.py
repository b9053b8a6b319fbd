"""How do results reach MLflow? `sync` makes the store equal to the records, whatever it missed or lost."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking.records import Record, beside, load_records, lock_beside, locked_beside
from pipeline.tracking.runs import (
    REASON_TAG,
    create_run,
    describe_run,
    end_abandoned,
    last_epoch,
    log_content,
    log_history,
    milliseconds,
    now,
    one_line,
    warn_once,
)
from pipeline.tracking.store import ORIGINAL_TAG, UNTRACKED, WEIGHTS_TAG, exclusively, experiment_id, open_store

MOST_VERSIONS = 100  # a tag holds 8,000 characters


def update_store(folder: Path = storage.RUNS) -> None:
    """Make the store tell what the records of `folder` tell; what it tells already is left as it is. Best effort.

    Only the records of the main checkout and its study, not those of experiments in copies or of the demo, replace what
    a run with the same weights shows already; the study's register no models.
    """
    registers = folder.resolve() == storage.main_checkout() / storage.RUNS
    leads = registers or folder.resolve().is_relative_to(storage.main_checkout() / "study")
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
        with contextlib.suppress(Exception):  # the next training or `make ui` does it
            end_abandoned(client)


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
    elif WEIGHTS_TAG not in own.data.tags or own.info.status != "FINISHED":
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
    return create_run(client, trained, restores=name)


def _finish(client: MlflowClient, run: Run, trained: Record) -> None:
    """Add what an interrupted, unreachable or lost store lacks of a training that ended well."""
    assert trained.model is not None
    run_id = run.info.run_id
    if "kl_weight" not in run.data.params:
        describe_run(client, run_id, trained)
    logged = last_epoch(client, run_id)
    log_history(client, run_id, [row for row in trained.history if row["epoch"] > logged], milliseconds(trained))
    if run.data.tags.get(REASON_TAG):
        client.set_tag(run_id, REASON_TAG, "")
    client.set_terminated(run_id, "FINISHED", end_time=milliseconds(trained, trained.seconds))
    client.set_tag(run_id, WEIGHTS_TAG, trained.weights_md5[trained.model])


def _add_metrics(client: MlflowClient, run: Run, trained: Record, records: Sequence[Record], leads: bool) -> None:
    """The evaluation of the run's weights."""
    for record in _users(trained, records):
        for key, value in record.metrics.items():
            found = run.data.metrics.get(key)
            if found is None or (leads and found != value):  # MLflow shows the value with the latest time
                time = milliseconds(record, record.seconds) if found is None else now()
                client.log_metric(run.info.run_id, key, value, time, step=0)  # step 0: bars, as for one value only


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
        yield _Artifact("dvc.lock", "sha256.dvc.lock", lock, storage.sha256(lock))


def _add_artifacts(
    client: MlflowClient, run: Run, trained: Record, records: Sequence[Record], folder: Path, leads: bool
) -> None:
    for artifact in _artifacts(trained, records, folder):
        had = run.data.tags.get(artifact.tag, "").split()
        replaces = leads and artifact.name != "dvc.lock"  # the run was made under the first that names its weights
        if artifact.sha256 in had[-1:] or (had and not replaces):
            continue
        if artifact.path.exists() and storage.sha256(artifact.path) == artifact.sha256:
            log_content(client, run.info.run_id, artifact.name, artifact.path.read_bytes())
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
        if not weights.exists() or storage.md5(weights) != weights_md5:
            return
        from pipeline.tracking.serving import save_served  # with it comes torch

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


def _warn_later(error: BaseException) -> None:
    reason = str(error) if isinstance(error, InputError) else one_line(error)
    warn_once(f"MLflow could not be updated, the records are kept; `make ui` catches up later: {reason}")
