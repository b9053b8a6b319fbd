"""How do results reach MLflow? `update_store` makes the store equal to the records, whatever it missed or lost."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.time import get_current_time_millis

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import MODELS, changed
from pipeline.tracking import lineage, runs, store
from pipeline.tracking.experiments import RESULTS, experiment_revisions, export
from pipeline.tracking.records import Record, beside, load_records, lock_beside, locked_beside, record_folders

MOST_VERSIONS = 100  # a tag holds 8,000 characters
PREVIEWS = "images"  # the folder in which MLflow keeps what log_image is given
PREVIEWS_TAG = "mlflow.loggedImages"  # of a run that has some


def update_store(*folders: Path) -> None:
    """Make the store tell what the records of `folders`, by default reports/runs, tell; what it has stays. Best effort.

    Only the records of the main checkout and its study, not those of experiments in copies or of the demo, replace what
    a run with the same weights shows already; the study's register no models.
    """
    try:
        client = store.open_store()
        known = [_Folder(client, folder) for folder in folders or (storage.RUNS,)]
        for folder in known:
            folder.update()
        with store.exclusively():  # once all trainings that images show have their runs
            stored = store.stored_runs(client)
            for folder in known:
                folder.add_drawings(stored)
        if index := lineage.stored_runs_path():
            with store.exclusively():
                lineage.save_stored_runs(index, store.stored_runs(client))
        runs.end_abandoned(client)
    except (InputError, *store.ERRORS) as error:
        _warn_later(error)


def update_everything() -> None:
    """Bring over what the records of this checkout, of its study and demo and of DVC's experiments tell."""
    folders: dict[tuple[bytes, ...], Path] = {}
    with tempfile.TemporaryDirectory() as copies:
        roots = [Path(), *(Path(copies, revision) for revision in experiment_revisions())]
        for copy in roots[1:]:
            export(copy.name, copy, *RESULTS)
        for folder in (folder for root in roots for folder in record_folders(root)):
            content = tuple(path.read_bytes() for path in sorted(folder.glob("*.json")))
            folders.setdefault(content, folder)  # most copies have the same study
        update_store(*folders.values())


class _Folder:
    """A folder of records on its way into the store."""

    def __init__(self, client: MlflowClient, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.records: list[Record] = []
        self.registers = folder.resolve() == storage.main_checkout() / storage.RUNS
        self.leads = self.registers or folder.resolve().is_relative_to(storage.main_checkout() / "study")

    def update(self) -> None:
        """Add what the store lacks."""
        try:
            self.records = load_records(self.folder)
            self.locked = locked_beside(self.folder)
        except InputError as error:
            _warn_later(error)
            return
        with store.exclusively():
            for trained in self.records:
                if trained.stage.startswith("train@"):
                    try:
                        for run in self.finished_runs(trained):
                            self.add_metrics(run, trained)
                            self.add_artifacts(run, trained)
                            self.add_model(run, trained)
                    except store.ERRORS as error:
                        if store.is_outage(error):  # for every other record as well
                            raise
                        _warn_later(error)

    def add_drawings(self, stored: Sequence[lineage.StoredRun]) -> None:
        """A run for each stage that drew images, where `stored` has none."""
        complete = {run.tags.get(lineage.RECORD_TAG) for run in stored}
        for record in self.records:
            if record.images and record.execution not in complete:
                shown = [run for run in stored if run.weights_md5 in record.weights_md5.values()]
                self.add_drawing(record, shown)

    def add_drawing(self, record: Record, shown: Sequence[lineage.StoredRun]) -> None:
        """The run of a stage with the images that it drew; it and the trainings that they show name each other."""
        client = self.client
        experiment = store.experiment_id(client, f"{record.data_name}/figures")
        same = f"tags.`{lineage.ORIGINAL_TAG}` = '{record.execution}'"
        if found := client.search_runs([experiment], same, ViewType.ALL):
            if found[0].info.lifecycle_stage != LifecycleStage.ACTIVE:
                return  # and stays deleted
            run = found[0]
        else:
            run = runs.create_drawing(client, experiment, record)
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as folder:
            for path, sha256 in record.images.items():
                image = beside(self.folder, Path(path))
                if image.exists() and storage.sha256(image) == sha256:
                    shutil.copy(image, folder)
                    client.set_tag(run_id, f"figure.{image.stem}", sha256)
            client.log_artifacts(run_id, folder)
        links = "\n".join(f"- [{run.name}]({run.page})" for run in shown)
        client.set_tag(run_id, "mlflow.note.content", f"Images of DVC stage {record.stage}, which show\n\n{links}")
        for training in shown:
            client.set_tag(training.id, f"drawn.by.{record.stage}", run_id)
        client.set_terminated(run_id, "FINISHED", end_time=runs.milliseconds(record.ended))
        client.set_tag(run_id, lineage.RECORD_TAG, record.execution)

    def finished_runs(self, trained: Record) -> Sequence[Run]:
        """All runs with the weights of a training record, its own among them: finished now, or rebuilt when lost."""
        known = self.client.get_experiment_by_name(trained.mlflow_experiment)
        if known and known.lifecycle_stage != LifecycleStage.ACTIVE:
            print(f"note: experiment {known.name} was deleted in MLflow and stays deleted")
            return []
        experiment = store.experiment_id(self.client, trained.mlflow_experiment)
        own = self.own_run(experiment, trained)
        if own.info.lifecycle_stage != LifecycleStage.ACTIVE:
            print(f"note: run {own.info.run_name} ({own.info.run_id}) was deleted in MLflow and stays deleted")
        elif lineage.WEIGHTS_TAG not in own.data.tags or own.info.status != "FINISHED":
            self.finish(own, trained)
        return self.client.search_runs([experiment], f"tags.`{lineage.WEIGHTS_TAG}` = '{_weights_md5(trained)}'")

    def own_run(self, experiment: str, trained: Record) -> Run:
        """The run of a training record, deleted ones included; a new one when the store has none."""
        name = trained.run_id or f"{lineage.UNTRACKED} {trained.started}"
        restored, original = f"tags.`{lineage.ORIGINAL_TAG}` = '{name}'", f"attributes.run_id = '{name}'"
        for places, condition in (([experiment], restored), (store.experiment_ids(self.client), original)):
            if found := self.client.search_runs(places, condition, ViewType.ALL):
                return found[0]
        return runs.create_run(self.client, trained, restores=name)

    def finish(self, run: Run, trained: Record) -> None:
        """Add what an interrupted, unreachable or lost store lacks of a training that ended well."""
        client, run_id = self.client, run.info.run_id
        uri = f'{{"uri": "{storage.TRAIN_IMAGES}"}}'
        dataset = Dataset(trained.data_name, (trained.data_md5 or "")[:8], "local", uri)
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        runs.catch_up(client, run_id, trained, runs.milliseconds(trained.started))
        client.log_text(run_id, yaml.safe_dump(changed({}, trained.parameters), sort_keys=False), "params.yaml")
        if trained.run_id != run_id:
            self.restore_previews(run_id, trained)
        if run.data.tags.get(runs.REASON_TAG):
            client.set_tag(run_id, runs.REASON_TAG, "")
        client.set_terminated(run_id, "FINISHED", end_time=runs.milliseconds(trained.ended))
        client.set_tag(run_id, lineage.WEIGHTS_TAG, _weights_md5(trained))

    def restore_previews(self, run_id: str, trained: Record) -> None:
        """The images of the epochs, where the artifacts of a lost run are still beside the database."""
        path = lineage.database()
        if path and trained.run_id:
            kept = store.artifact_folder(path, trained.mlflow_experiment) / trained.run_id / "artifacts" / PREVIEWS
            if kept.is_dir():
                self.client.log_artifacts(run_id, str(kept), PREVIEWS)
                self.client.set_tag(run_id, PREVIEWS_TAG, "True")

    def add_metrics(self, run: Run, trained: Record) -> None:
        """The evaluation of the run's weights, and by a tag on which test images."""
        metrics, tags = [], []
        for record in self.users(trained):
            for key, value in record.metrics.items():
                found = run.data.metrics.get(key)
                if found is None or (self.leads and found != value):  # MLflow shows the value with the latest time
                    time = runs.milliseconds(record.ended) if found is None else get_current_time_millis()
                    metrics.append(Metric(key, value, time, step=0))  # step 0: bars, as for one value only
                    if record.test_md5:
                        tags = [RunTag("test.md5", record.test_md5)]
        if metrics:
            self.client.log_batch(run.info.run_id, metrics, tags=tags)

    def add_artifacts(self, run: Run, trained: Record) -> None:
        """Weights, curves, figures and lock that the run lacks, each with a tag of the sha256 of all that it had."""
        tags = []
        with tempfile.TemporaryDirectory() as folder:
            for name, tag, path, sha256 in self.artifacts(trained):
                had = run.data.tags.get(tag, "").split()
                replaces = self.leads and name != "dvc.lock"  # the run was made under the first that names its weights
                if sha256 in had[-1:] or (had and not replaces):
                    continue
                if path.exists() and storage.sha256(path) == sha256:
                    shutil.copy(path, Path(folder, name))
                    versions = [*(version for version in had if version != sha256), sha256]
                    tags.append(RunTag(tag, " ".join(versions[-MOST_VERSIONS:])))
            if tags:
                self.client.log_artifacts(run.info.run_id, folder)
                self.client.log_batch(run.info.run_id, tags=tags)

    def artifacts(self, trained: Record) -> Iterator[tuple[str, str, Path, str]]:
        """Name, tag, file and sha256: of weights and curves, figures that show them, and the dvc.lock that names them.

        Of the last sha256 in the tag the run has the file.
        """
        for path, hashes in trained.outputs.items():
            name = "curves.csv" if path.endswith(".csv") else Path(path).name
            yield name, f"sha256.{name}", beside(self.folder, Path(path)), hashes["sha256"]
        for record in self.users(trained):
            for path, hashes in record.outputs.items():
                figure = Path(path)
                owner, _, kind = figure.stem.partition("_")
                if figure.suffix == ".png" and owner not in set(MODELS) - {trained.model}:
                    name = f"{kind if owner == trained.model else figure.stem}.png"  # one name for both models
                    yield name, f"figure.{figure.stem}", beside(self.folder, figure), hashes["sha256"]
        lock = lock_beside(self.folder)
        if lock and _weights_md5(trained) in self.locked.values():
            yield "dvc.lock", "sha256.dvc.lock", lock, storage.sha256(lock)

    def users(self, trained: Record) -> list[Record]:
        """The records of stages that used the weights which a training made."""
        others = [record for record in self.records if record is not trained]
        return [other for other in others if other.weights_md5.get(str(trained.model)) == _weights_md5(trained)]

    def add_model(self, run: Run, trained: Record) -> None:
        """The run's MLflow model, once its weights are at hand; registered as <data>-<model> in the main checkout."""
        weights = beside(self.folder, storage.weights_path(str(trained.model)))
        model_id, weights_md5 = run.data.tags.get("model_id"), _weights_md5(trained)
        if model_id is None:
            if not weights.exists() or storage.md5(weights) != weights_md5:
                return
            from pipeline.tracking.serving import save_served  # with it comes torch

            info, tags = run.info, {lineage.WEIGHTS_TAG: weights_md5}
            model = self.client.create_logged_model(info.experiment_id, "vae", info.run_id, tags, run.data.params)
            model_id = model.model_id
            with tempfile.TemporaryDirectory() as temporary:
                save_served(Path(temporary, "model"), weights, run.info.run_id, model_id)
                self.client.log_model_artifacts(model_id, str(Path(temporary, "model")))
            self.client.finalize_logged_model(model_id, "READY")
            self.client.set_tag(run.info.run_id, "model_id", model_id)
        if self.registers:
            self.register(f"{trained.data_name}-{trained.model}", model_id, run, weights_md5)

    def register(self, name: str, model_id: str, run: Run, weights_md5: str) -> None:
        """A new version unless the newest has these weights: models:/<name>@latest is what the main checkout has."""
        versions = self.client.search_model_versions(f"name = '{name}'")
        newest = max(versions, key=lambda version: int(version.version), default=None)
        if newest is None or newest.tags.get(lineage.WEIGHTS_TAG) != weights_md5:
            with contextlib.suppress(MlflowException):  # it exists
                self.client.create_registered_model(name, description="A VAE: reconstruct, encode, decode, sample.")
            tags = {lineage.WEIGHTS_TAG: weights_md5}
            self.client.create_model_version(name, f"models:/{model_id}", run.info.run_id, tags, model_id=model_id)


def _weights_md5(trained: Record) -> str:
    return trained.weights_md5[str(trained.model)]


def _warn_later(error: BaseException) -> None:
    reason = str(error) if isinstance(error, InputError) else runs.one_line(error)
    runs.warn_once(f"MLflow could not be updated, the records are kept; `make ui` catches up later: {reason}")
