"""Where does a file come from? From its content through the records to the trainings, data, code and runs behind it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import lineage, storage, store
from pipeline.errors import InputError
from pipeline.experiments import committed, export
from pipeline.records import Record, load_records, lock_beside, record_folders


@dataclass(frozen=True)
class Shelf:
    """Records that belong together, and the md5 by path that dvc.lock states beside them."""

    name: str
    records: list[Record]
    locked: dict[str, str]


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
    started: str  # UTC
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
    found = _find_output(sha256)
    if found is None:
        if stored := _trace_in_store(path, sha256):
            return stored
        raise InputError(f"{path}: {_diagnosis(path, sha256)}")
    shelf, record, listed = found
    if shelf.locked.get(listed, md5) != md5:
        raise InputError(f"{path}: its md5 is {md5}, but dvc.lock beside {shelf.name} says {shelf.locked[listed]}")
    shown = record.weights_md5
    if path.suffix == ".png":
        text = storage.load_figure_text(path)
        shown = _weights_in(text)
        if text.get("data.md5") != record.data_md5 or not shown.items() <= record.weights_md5.items():
            raise InputError(f"{path}: its text names other data or weights than the record of {record.stage}")
    trainings = [_training(path, shelf, record, name, weights_md5) for name, weights_md5 in shown.items()]
    return Trace(
        str(path), sha256, record.stage, record.started, record.commit, record.dirty,
        shelf.name, record.data_name, record.data_md5 or md5, trainings,
    )  # fmt: skip


def _find_output(sha256: str) -> tuple[Shelf, Record, str] | None:
    """The record that lists a file of this content, here or else in git's history, and the path under which it does."""
    for shelf in _shelves(sha256):
        for record in shelf.records:
            for listed, hashes in record.outputs.items():
                if hashes["sha256"] == sha256:
                    return shelf, record, listed
    return None


def _training(path: Path, shelf: Shelf, user: Record, name: str, weights_md5: str) -> Training:
    """The training that made the weights which the record `user` used or made, and its runs."""
    for place in (shelf, *_shelves(weights_md5)):
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
    if (run_id or store.UNTRACKED) not in known:
        training.missing_run = run_id or "none was written while it trained"
    return training


def _trace_in_store(path: Path, sha256: str) -> Trace | None:
    """What the runs say that carry a file of this content; a demo's records, for one, go when the next demo comes."""
    runs = [run for run in stored_runs() if sha256 in run.tags.values()]
    if not runs:
        return None
    trainings: dict[str, Training] = {}
    for run in runs:
        weights_md5 = run.tags[store.WEIGHTS_TAG]
        training = Training(
            run.tags["model"], weights_md5, float(run.params["kl_weight"]), run.tags.get("git.commit"),
            run.tags.get("git.dirty") == "True", run.tags.get("dvc.exp"), run.started, dict(run.params),
        )  # fmt: skip
        trainings.setdefault(weights_md5, _with_runs(training, run.id))
    first, tags = next(iter(trainings.values())), runs[0].tags
    return Trace(
        str(path), sha256, tags["dvc.stage"], first.started, first.commit, first.dirty,
        "the store's tags", tags["data.name"], tags.get("data.md5", ""), list(trainings.values()),
    )  # fmt: skip


def _diagnosis(path: Path, sha256: str) -> str:
    """Which link is broken of a file that no record lists."""
    text = storage.load_figure_text(path) if path.suffix == ".png" else {}
    if path.suffix == ".png" and "data.md5" not in text:
        return "has no text data.md5: edited or re-encoded, or not drawn by this pipeline"
    for name, weights_md5 in _weights_in(text).items():
        if not any(weights_md5 in record.weights_md5.values() for shelf in shelves_here() for record in shelf.records):
            return f"shows {name} with weights {weights_md5}, which no record has"
    for shelf in shelves_here():
        for record in shelf.records:
            for listed, hashes in record.outputs.items():
                if PurePosixPath(listed).parts[-2:] == path.absolute().parts[-2:]:
                    return f"found sha256 {sha256[:12]}, expected the {hashes['sha256'][:12]} of {record.path}: edited"
    return "no record here or in git's history lists it, nor has a run of the store such a file"


def _weights_in(text: dict[str, str]) -> dict[str, str]:
    """The md5 of each model's weights in the text of a figure."""
    suffix = ".weights.md5"
    return {key.removesuffix(suffix): value for key, value in text.items() if key.endswith(suffix)}


def _shelves(content: str) -> Iterator[Shelf]:
    """The records here, then those at the commits, of experiments too, that brought a text or removed it."""
    yield from shelves_here()
    search = ["git", "log", "--all", "--format=%H", "-S", content, "--", storage.REPORTS.as_posix()]
    found = subprocess.run(search, capture_output=True, text=True, check=False)
    for commit in found.stdout.split():
        if not committed(commit, storage.RUNS.as_posix()):
            continue
        with tempfile.TemporaryDirectory() as copy:
            root = Path(copy)
            export(commit, PurePosixPath(storage.REPORTS.as_posix()), root / storage.REPORTS)
            (root / "dvc.lock").write_bytes(committed(commit, "dvc.lock"))
            for folder in record_folders(root):
                yield _shelf(folder, f"{folder.relative_to(root).as_posix()} at commit {commit[:10]}")


@cache
def shelves_here() -> list[Shelf]:
    return [_shelf(folder, folder.as_posix()) for folder in record_folders()]


def _shelf(folder: Path, name: str) -> Shelf:
    lock = lock_beside(folder)
    return Shelf(name, load_records(folder), lineage.locked(lock.read_text(encoding="utf-8")) if lock else {})


@cache
def stored_runs() -> list[store.StoredRun]:
    """The store's runs; a trace needs no store, so one that does not answer is only said."""
    try:
        return store.stored_runs()
    except Exception as error:
        print(f"note: the MLflow store does not answer ({error})", file=sys.stderr)
        return []
