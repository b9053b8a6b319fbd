"""Which data, code, training and MLflow run stand behind an image, weights or metrics? A short table, or an error."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking import store
from pipeline.tracking.experiments import committed, export_results, export_study
from pipeline.tracking.records import CELLS, Record, beside, load_records, locked_beside, record_folders


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline trace", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="images, weights, metrics or curves")
    parser.add_argument("--all", action="store_true", help="everything under reports/, models/ and study/, a line each")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    if options.all == bool(options.paths):
        parser.error("expected either paths or --all")
    answers: list[dict[str, Any]] = []
    for path in results_here() if options.all else options.paths:
        if options.all and path.suffix == ".safetensors" and not path.exists():
            print(f"absent  {path}: dvc pull or dvc repro brings it", file=sys.stderr)
            continue
        try:
            result = trace_file(path)
            answers.append(asdict(result))
            if not options.json:
                print(line(result) if options.all else table(result))
        except InputError as error:
            answers.append({"path": str(path), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(answers, indent=2))
    sys.exit(any("error" in answer for answer in answers))


def results_here() -> list[Path]:
    """Every file under reports/, models/ and the study's cells but records themselves, and all that records list."""
    found = set(Path("models").glob("*/*.safetensors"))
    for folder in (storage.RUNS, *sorted(CELLS.glob(f"*/{storage.RUNS}"))):
        found |= {path for path in folder.parent.rglob("*") if path.is_file() and path.parent.name != folder.name}
        found |= {beside(folder, Path(path)) for record in load_records(folder) for path in record.outputs}
    return sorted(found - {storage.IMAGES})


def table(result: Trace) -> str:
    """A trace as short lines."""
    lines = [
        result.path,
        f"  made by    {result.stage}{_when(result.started, result.commit, result.dirty)}",
        f"  listed in  {result.listed_in}, sha256 {result.sha256[:12]} agrees",
        f"  data       {result.data_name}, md5 {result.data_md5}",
    ]
    for training in result.trainings:
        lines += [
            f"  {training.model}",
            f"    weights    md5 {training.weights_md5}",
            f"    kl_weight  {training.kl_weight:g}, {training.parameters['likelihood']} likelihood",
            f"    trained    {_when(training.started, training.commit, training.dirty).removeprefix(', ')}",
        ]
        if training.experiment:
            lines.append(f"    experiment {training.experiment}")
        for run in training.runs:
            lines += [f"    run        {run['id']}, {run['name']}", f"    open       {_address(run['page'])}"]
        if training.missing_run:
            lines.append(f"    run        {training.missing_run}: not in the MLflow store, make ui brings it there")
    return "\n".join(lines)


def line(result: Trace) -> str:
    """A trace in one line."""
    shown = [f"{training.model} kl={training.kl_weight:g} {training.weights_md5[:8]}" for training in result.trainings]
    return f"ok      {result.path}: {', '.join([*shown, f'data {result.data_name} {result.data_md5[:8]}'])}"


def _when(started: str | None, commit: str | None, dirty: bool | None) -> str:
    if started is None:
        return ""
    state = {True: ", with uncommitted changes", False: ", clean", None: ""}[dirty]
    return f", {started[:16].replace('T', ' ')} UTC, commit {(commit or 'unknown')[:10]}{state}"


def _address(page: str) -> str:
    if store.database() is None:
        return f"{store.store_uri().rstrip('/')}/{page}"
    return f"make ui, then http://127.0.0.1:5050/{page}"


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


def trace_file(path: Path) -> Trace:
    """Follow a file to its trainings; InputError says which link is broken."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    sha256, md5 = storage.sha256(path), storage.md5(path)
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
