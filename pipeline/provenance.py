"""Where does a file come from? From its content through the records to the trainings, data, code and runs behind it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import lineage, storage, store
from pipeline.errors import InputError
from pipeline.experiments import committed, export_results, export_study
from pipeline.records import CELLS, Record, beside, load_records, locked_beside, record_folders


@dataclass(frozen=True)
class Shelf:
    """Records that belong together, and the md5 by path that dvc.lock states beside them."""

    name: str
    folder: Path
    records: list[Record]
    locked: dict[str, str]

    def outputs(self) -> Iterator[tuple[Record, str, dict[str, str]]]:
        """Each record with the paths that it lists and their md5 and sha256."""
        for record in self.records:
            for path, hashes in record.outputs.items():
                yield record, path, hashes


@dataclass
class Training:
    """One training whose weights a file shows."""

    model: str
    weights_md5: str
    kl_weight: float
    commit: str | None
    dirty: bool | None
    experiment: str | None
    started: str  # UTC
    parameters: dict[str, Any]
    runs: list[dict[str, str]] = field(default_factory=list)  # those of the store: id, name, page of MLflow's UI
    missing_run: str | None = None  # what the record names and the store lacks


@dataclass
class Trace:
    """What is known of a file; every link was checked."""

    path: str
    sha256: str
    stage: str
    started: str | None  # UTC
    commit: str | None
    dirty: bool | None
    listed_in: str  # the folder of records that states the sha256
    data_name: str
    data_md5: str
    trainings: list[Training]


def trace(path: Path) -> Trace:
    """Follow a file to its trainings; InputError says which link is broken."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    sha256, md5 = lineage.sha256(path), lineage.md5(path)
    found = _entry_of(path, sha256) or _find_content(sha256)
    if found is None:
        if stored := _trace_in_store(path, sha256):
            return stored
        raise InputError(f"{path}: {_diagnosis(path)}")
    shelf, record, listed = found
    if shelf.locked.get(listed, md5) != md5:
        raise InputError(f"{path}: its md5 is {md5}, but dvc.lock beside {shelf.name} says {shelf.locked[listed]}")
    for name, input_md5 in record.inputs.items():
        if not _is_made(shelf, input_md5):
            raise InputError(f"{path}: {record.stage} read {name} with md5 {input_md5}, but no record has written that")
    shown = record.weights_md5
    if path.suffix == ".png":
        text = _text(path)
        shown = _weights_in(text)
        parameters = json.loads(text.get("parameters", "null")) or {}
        agrees = text.get("data.md5") == record.data_md5 and parameters.items() <= record.parameters.items()
        if not (agrees and shown.items() <= record.weights_md5.items()):
            raise InputError(f"{path}: its text names another origin than the record of {record.stage} in {shelf.name}")
    trainings = [_training(path, shelf, record, name, weights_md5) for name, weights_md5 in shown.items()]
    return Trace(
        str(path), sha256, record.stage, record.started, record.commit, record.dirty,
        shelf.name, record.data_name, record.data_md5 or md5, trainings,
    )  # fmt: skip


def _entry_of(path: Path, sha256: str) -> tuple[Shelf, Record, str] | None:
    """The record that lists this very path; InputError when it lists another content there."""
    for shelf in shelves_here():
        for record, listed, hashes in shelf.outputs():
            if beside(shelf.folder, Path(listed)).absolute() == path.absolute():
                if hashes["sha256"] != sha256:
                    wrote = f"{record.stage} in {shelf.name} wrote {hashes['sha256'][:12]}"
                    raise InputError(f"{path}: {_lost_text(path)}found sha256 {sha256[:12]}, but {wrote}")
                return shelf, record, listed
    return None


def _find_content(sha256: str) -> tuple[Shelf, Record, str] | None:
    """The record that lists a file of this content, here or else in git's history, and the path under which it does."""
    for shelf in _shelves(sha256):
        for record, listed, hashes in shelf.outputs():
            if hashes["sha256"] == sha256:
                return shelf, record, listed
    return None


def _is_made(shelf: Shelf, md5: str) -> bool:
    """Whether a record lists a file of this content as its output."""
    return any(hashes["md5"] == md5 for place in chain([shelf], _shelves(md5)) for _, _, hashes in place.outputs())


def _training(path: Path, shelf: Shelf, user: Record, name: str, weights_md5: str) -> Training:
    """The training that made the weights which the record `user` used or made, and its runs."""
    for place in chain([shelf], _shelves(weights_md5)):
        for record in place.records:
            if record.stage.startswith("train@") and weights_md5 in record.weights_md5.values():
                if record.data_md5 != user.data_md5:
                    raise InputError(f"{path}: made from data {user.data_md5}, {name} is trained on {record.data_md5}")
                training = Training(
                    str(record.model), weights_md5, record.parameters["kl_weight"], record.commit, record.dirty,
                    record.experiment, record.started, dict(record.parameters),
                )  # fmt: skip
                return _with_runs(training, record.run_id)
    raise InputError(f"{path}: shows {name} with weights {weights_md5}, but no record of a training has made them")


def _with_runs(training: Training, run_id: str | None) -> Training:
    runs = [run for run in stored_runs() if run.tags[store.WEIGHTS_TAG] == training.weights_md5]
    training.runs = [{"id": run.id, "name": run.name, "page": run.page} for run in runs]
    known = {run.id for run in runs} | {run.tags.get(store.ORIGINAL_TAG) for run in runs}
    if (run_id or f"{store.UNTRACKED} {training.started}") not in known:
        training.missing_run = run_id or "none was written while it trained"
    return training


def _trace_in_store(path: Path, sha256: str) -> Trace | None:
    """What the runs say that carry a file of this content; a demo's records, for one, go when the next demo comes."""
    runs = [run for run in stored_runs() if any(sha256 in value.split() for value in run.tags.values())]
    if not runs:
        return None
    trainings: dict[str, Training] = {}
    for run in runs:
        tags, dirty = run.tags, {"True": True, "False": False}.get(run.tags.get("git.dirty", ""))
        training = Training(
            tags["model"], tags[store.WEIGHTS_TAG], float(run.params["kl_weight"]), tags.get("git.commit"), dirty,
            tags.get("dvc.exp"), run.started, dict(run.params),
        )  # fmt: skip
        trainings.setdefault(training.weights_md5, _with_runs(training, run.id))
    tags = runs[0].tags
    return Trace(
        str(path), sha256, "a stage whose record is gone", None, None, None,
        "the store's tags", tags["data.name"], tags.get("data.md5", ""), list(trainings.values()),
    )  # fmt: skip


def _diagnosis(path: Path) -> str:
    """Which link is broken of a file that no record lists."""
    if lost := _lost_text(path):
        return f"{lost}no record lists it"
    for name, weights_md5 in (_weights_in(_text(path)) if path.suffix == ".png" else {}).items():
        if not any(weights_md5 in record.weights_md5.values() for shelf in shelves_here() for record in shelf.records):
            return f"shows {name} with weights {weights_md5}, which no record here has"
    return "no record here or in git's history lists it, nor has a run of the store such a file"


def _lost_text(path: Path) -> str:
    if path.suffix == ".png" and "data.md5" not in _text(path):
        return "has no text data.md5 (edited or re-encoded, or not drawn by this pipeline), "
    return ""


def _text(path: Path) -> dict[str, str]:
    try:
        return storage.load_figure_text(path)
    except (ValueError, SyntaxError) as error:  # of Pillow, for damaged chunks
        raise InputError(f"{path}: damaged ({error})") from None


def _weights_in(text: dict[str, str]) -> dict[str, str]:
    """The md5 of each model's weights in the text of a figure."""
    suffix = ".weights.md5"
    return {key.removesuffix(suffix): value for key, value in text.items() if key.endswith(suffix)}


def _shelves(content: str) -> Iterator[Shelf]:
    """The records here, then those at the commits, of experiments too, that brought a text or removed it."""
    yield from shelves_here()
    search = ["git", "log", "--all", "--format=%H", "-S", content, "--", storage.REPORTS.as_posix(), CELLS.as_posix()]
    found = subprocess.run(search, capture_output=True, text=True, check=False)
    for commit in found.stdout.split():
        if not committed(commit, storage.RUNS.as_posix()):
            continue
        with tempfile.TemporaryDirectory() as copy:
            export_results(commit, Path(copy))
            export_study(commit, Path(copy))
            for folder in record_folders(Path(copy)):
                try:
                    yield _shelf(folder, f"{folder.relative_to(copy).as_posix()} at commit {commit[:10]}")
                except InputError:  # of another version of this pipeline
                    print(f"note: the records at commit {commit[:10]} cannot be read", file=sys.stderr)


@cache
def shelves_here() -> list[Shelf]:
    return [_shelf(folder, folder.as_posix()) for folder in record_folders()]


def _shelf(folder: Path, name: str) -> Shelf:
    return Shelf(name, folder, load_records(folder), locked_beside(folder))


@cache
def stored_runs() -> list[store.StoredRun]:
    """The store's runs; a trace needs no store, so one that does not answer is only said."""
    try:
        return store.stored_runs()
    except Exception as error:
        print(f"note: the MLflow store does not answer ({error})", file=sys.stderr)
        return []
