"""Which data, code, training and MLflow run stand behind an image, weights or metrics? A short table, or an error."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import InputError, printable
from pipeline.tracking import lineage
from pipeline.tracking.experiments import export, git
from pipeline.tracking.records import CELLS, Record, beside, load_records, locked_beside, record_folders

Written = tuple[Record, str]  # a record, and its name for one of its outputs

folders_here = cache(record_folders)  # every file asks for them


def main(paths: Sequence[Path], everything: bool, as_json: bool) -> None:
    """Trace these files or everything, with exit status 1 when a link is broken."""
    if everything == bool(paths):
        raise InputError("trace: expected either paths or --all")
    answers: list[dict[str, Any]] = []
    for path in results_here() if everything else paths:
        if everything and path.suffix == ".safetensors" and not path.exists():
            print(f"absent  {path}: dvc pull or dvc repro brings it", file=sys.stderr)
            continue
        try:
            result = trace_file(path)
            answers.append(asdict(result))
            if not as_json:
                print(line(result) if everything else table(result))
        except InputError as error:
            answers.append({"path": str(path), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps(answers, indent=2))
    sys.exit(any("error" in answer for answer in answers))


def results_here() -> list[Path]:
    """Every file under reports/, models/ and the study's cells but records themselves, and all that records list."""
    found = set(Path("models").glob("*/*.safetensors"))
    for folder in (storage.RUNS, *CELLS.glob(f"*/{storage.RUNS}")):
        found |= {path for path in folder.parent.rglob("*") if path.is_file() and path.parent.name != folder.name}
        found |= {beside(folder, Path(name)) for record in shelf_of(folder).records for name in record.outputs}
    return sorted(path for path in found if not path.is_relative_to(storage.DATA))


def table(result: Trace) -> str:
    """A trace as short lines."""
    at_server = printable(lineage.store_uri().rstrip("/"))
    address = at_server if lineage.database() is None else "make ui, then http://127.0.0.1:5050"
    lines = [
        result.path,
        f"  made by    {result.stage}{_when(result.started, result.commit, result.dirty)}",
        f"  listed in  {result.listed_in}, sha256 {result.sha256[:12]} agrees",
        f"  data       {result.data_name}, md5 {result.data_md5}",
        *([f"  test data  md5 {result.test_md5}"] if result.test_md5 else []),
        *_run_lines(result, address, "  "),
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
        lines += _run_lines(training, address, "    ")
    return "\n".join(lines)


def _run_lines(traced: Trace | Training, address: str, indent: str) -> list[str]:
    lines = []
    for run in traced.runs:
        lines += [f"{indent}run        {run['id']}, {run['name']}", f"{indent}open       {address}/{run['page']}"]
    if traced.missing_run:
        lines.append(f"{indent}run        {traced.missing_run}: not in the MLflow store, make ui brings it there")
    return lines


def line(result: Trace) -> str:
    """A trace in one line."""
    shown = [f"{training.model} kl={training.kl_weight:g} {training.weights_md5[:8]}" for training in result.trainings]
    return f"ok      {result.path}: {', '.join([*shown, f'data {result.data_name} {result.data_md5[:8]}'])}"


def _when(started: str | None, commit: str | None, dirty: bool | None) -> str:
    if started is None:
        return ""
    state = {True: ", with uncommitted changes", False: ", clean", None: ""}[dirty]
    return f", {started[:16].replace('T', ' ')} UTC, commit {(commit or 'unknown')[:10]}{state}"


@dataclass(frozen=True)
class Shelf:
    """Records that belong together, what each has written, and the md5 by path that dvc.lock states beside them."""

    name: str
    records: list[Record]
    written: dict[Path, Written]  # by absolute path
    locked: dict[str, str]

    def find(self, content: str) -> Written | None:
        """The file with that md5 or sha256."""
        for record, name in self.written.values():
            if content in record.outputs[name].values():
                return record, name
        return None


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
    parameters: Mapping[str, Any]
    runs: list[dict[str, str]]  # those of the store: id, name, page of MLflow's UI
    missing_run: str | None  # what the record names and the store lacks


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
    test_md5: str | None
    trainings: list[Training]
    runs: list[dict[str, str]]  # of the stage that drew it, those of the store
    missing_run: str | None  # of that stage, what the store lacks


def trace_file(path: Path) -> Trace:
    """Follow a file to its trainings; InputError says which link is broken."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    md5, sha256 = lineage.hashes(path).values()
    found = _find(path, sha256)
    if found is None:
        return _trace_in_store(path, sha256)
    shelf, record, name = found
    if (locked := shelf.locked.get(name, md5)) != md5:
        raise InputError(f"{path}: its md5 is {md5}, but dvc.lock beside {shelf.name} says {locked}")
    for read, input_md5 in record.inputs.items():
        if not any(place.find(input_md5) for place in _shelves(input_md5, shelf)):
            raise InputError(f"{path}: {record.stage} read {read} with md5 {input_md5}, but no record has written that")
    shown = record.weights_md5
    if path.suffix == ".png":
        text = storage.load_figure_text(path)
        shown = lineage.weights_in(text)
        parameters = json.loads(text.get("parameters", "null")) or {}
        same_data = (text.get("data.md5"), text.get("test.md5")) == (record.data_md5, record.test_md5)
        agrees = same_data and parameters.items() <= record.parameters.items()
        if not (agrees and shown.items() <= record.weights_md5.items()):
            raise InputError(f"{path}: its text names another origin than the record of {record.stage} in {shelf.name}")
    trainings = [_training(path, shelf, record, model, weights_md5) for model, weights_md5 in shown.items()]
    drawn = [run for run in stored_runs() if run.tags.get(lineage.RECORD_TAG) == record.execution]
    missing = record.execution if path.suffix == ".png" and not drawn else None
    return Trace(
        str(path), sha256, record.stage, record.started, record.commit, record.dirty,
        shelf.name, record.data_name, record.data_md5 or md5, record.test_md5, trainings, _pages(drawn), missing,
    )  # fmt: skip


def _find(path: Path, sha256: str) -> tuple[Shelf, Record, str] | None:
    """The records here that list this very path, else those here or in git's history that list a file of this content.

    InputError when another content is listed under the path.
    """
    for shelf in shelves_here():
        if file := shelf.written.get(path.absolute()):
            record, name = file
            if (expected := record.outputs[name]["sha256"]) != sha256:
                wrote = f"{record.stage} in {shelf.name} wrote {expected[:12]}"
                raise InputError(f"{path}: {_lost_text(path)}found sha256 {sha256[:12]}, but {wrote}")
            return shelf, record, name
    return next(((shelf, *file) for shelf in _shelves(sha256) if (file := shelf.find(sha256))), None)


def _training(path: Path, shelf: Shelf, user: Record, name: str, weights_md5: str) -> Training:
    """The training that made the weights which the record `user` used or made."""
    for place in _shelves(weights_md5, shelf):
        for record in place.records:
            if record.stage.startswith("train@") and weights_md5 in record.weights_md5.values():
                if record.data_md5 != user.data_md5:
                    raise InputError(f"{path}: made from data {user.data_md5}, {name} is trained on {record.data_md5}")
                return _with_runs(record, weights_md5)
    raise InputError(f"{path}: shows {name} with weights {weights_md5}, but no record of a training has made them")


def _with_runs(record: Record, weights_md5: str) -> Training:
    """A training and the store's runs that have its weights."""
    runs = [run for run in stored_runs() if run.weights_md5 == weights_md5]
    known = {run.id for run in runs} | {run.tags.get(lineage.ORIGINAL_TAG) for run in runs}
    missing = (record.run_id or f"{lineage.UNTRACKED} {record.started}") not in known
    return Training(
        str(record.model), weights_md5, float(record.parameters["kl_weight"]), record.commit, record.dirty,
        record.experiment, record.started, record.parameters,
        _pages(runs),
        (record.run_id or "none was written while it trained") if missing else None,
    )  # fmt: skip


def _trace_in_store(path: Path, sha256: str) -> Trace:
    """What the runs say that carry a file of this content; a demo's records, for one, go when the next demo comes."""
    records = {}
    for run in stored_runs():
        tags = run.tags
        if run.weights_md5 and any(sha256 in value.split() for value in tags.values()):
            records[run.weights_md5] = Record(
                f"train@{tags['model']}", run.params, tags["data.name"], tags.get("data.md5"), run_id=run.id,
                started=run.started, commit=tags.get("git.commit"), experiment=tags.get("dvc.exp"),
                dirty={"True": True, "False": False}.get(tags.get("git.dirty", "")),
            )  # fmt: skip
    if not records:
        raise InputError(f"{path}: {_diagnosis(path)}")
    trainings = [_with_runs(record, weights_md5) for weights_md5, record in records.items()]
    first = next(iter(records.values()))
    return Trace(
        str(path), sha256, "a stage whose record is gone", None, None, None,
        "the store's tags", first.data_name, first.data_md5 or "", None, trainings, [], None,
    )  # fmt: skip


def _pages(runs: Sequence[lineage.StoredRun]) -> list[dict[str, str]]:
    return [{"id": run.id, "name": run.name, "page": run.page} for run in runs]


def _diagnosis(path: Path) -> str:
    """Which link is broken of a file that no record lists."""
    if lost := _lost_text(path):
        return f"{lost}no record lists it"
    shown = lineage.weights_in(storage.load_figure_text(path)) if path.suffix == ".png" else {}
    for name, weights_md5 in shown.items():
        if not any(weights_md5 in record.weights_md5.values() for shelf in shelves_here() for record in shelf.records):
            return f"shows {name} with weights {weights_md5}, which no record here has"
    return "no record here or in git's history lists it, nor has a run of the store such a file"


def _lost_text(path: Path) -> str:
    if path.suffix == ".png" and "data.md5" not in storage.load_figure_text(path):
        return "has no text data.md5 (edited or re-encoded, or not drawn by this pipeline), "
    return ""


def _shelves(content: str, *first: Shelf) -> Iterator[Shelf]:
    """The records here, then those at the commits that brought a record which states a hash, the newest first."""
    yield from first
    yield from shelves_here()
    for commit, folder, change in history():
        if content in change:
            try:
                yield shelf_of(folder, commit)
            except InputError:  # of another version of this pipeline
                print(f"note: the records at commit {commit[:10]} cannot be read", file=sys.stderr)


def shelves_here() -> Iterator[Shelf]:
    """The records of this checkout, each folder read when it is asked for."""
    return map(shelf_of, folders_here())


@cache
def history() -> list[tuple[str, Path, str]]:
    """What each commit, of any branch or experiment, changed of records: its hash, a record's folder, and the change.

    Read at once: git takes as long to look for one hash.
    """
    shown = ["--all", "--full-history", "--diff-filter=AM", "--no-renames", "--unified=0", "--format=%x00%H"]
    whatever_is_configured = ["--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/"]
    places = [f":(glob){storage.REPORTS}/**/{storage.RUNS.name}/*.json", f":(glob){CELLS}/*/{storage.RUNS}/*.json"]
    try:
        log = git("log", *shown, *whatever_is_configured, "--", *places).decode(errors="replace")
    except InputError:  # no git, or no commit
        return []
    commits = [entry.split("\ndiff --git a/") for entry in log.split("\0")[1:]]
    return [
        (commit.strip(), Path(change.partition(" b/")[0]).parent, change)
        for commit, *changes in commits
        for change in changes
    ]


@cache
def shelf_of(folder: Path, commit: str = "") -> Shelf:
    """The records in a folder, as they are here or were at a commit."""
    with tempfile.TemporaryDirectory() as copy:
        place, name = folder, folder.as_posix()
        if commit:
            export(commit, Path(copy), name, "dvc.lock", "study/dvc.lock")
            place, name = Path(copy, folder), f"{name} at commit {commit[:10]}"
        records, locked = load_records(place), locked_beside(place)
    written = {beside(place, Path(path)).absolute(): (record, path) for record in records for path in record.outputs}
    return Shelf(name, records, written, locked)


@cache
def stored_runs() -> list[lineage.StoredRun]:
    """The store's runs, from its index when there is one; one that does not answer is only said, none is needed."""
    database, index = lineage.database(), lineage.stored_runs_path()
    if database and not database.exists():
        return []
    if index and index.exists():
        return lineage.load_stored_runs(index)
    from pipeline.tracking import store  # with it comes MLflow, which takes seconds

    try:
        return store.stored_runs()
    except (InputError, *store.ERRORS) as error:
        print(f"note: the MLflow store does not answer ({error})", file=sys.stderr)
        return []
