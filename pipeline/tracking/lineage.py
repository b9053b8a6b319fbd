"""What identifies a result? Content hashes of what went in, written into the image and the MLflow run that came out."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking.experiments import git

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

PROJECT = Path(__file__).parents[2]
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
WEIGHTS_TAG = "weights.md5"  # of a run, set last: what has it is complete
ORIGINAL_TAG = "original.run_id"  # of a run that was rebuilt from a record: the run that it stands for
WEIGHTS_TEXT = ".weights.md5"  # of a figure, after the name of a model
RECORD_TAG = "record"  # of the run of a stage that drew images, set last: the stage and its start
UNTRACKED = "untracked"  # or this and its start, for a training that MLflow never saw


@dataclass(frozen=True)
class StoredRun:
    """A complete run as the store has it."""

    id: str
    name: str
    page: str  # of MLflow's UI
    started: str  # UTC
    params: dict[str, str]
    tags: dict[str, str]

    @property
    def weights_md5(self) -> str | None:
        """Of the weights that a training made; None for a stage that drew images."""
        return self.tags.get(WEIGHTS_TAG)

    @property
    def experiment(self) -> str:
        """The id of its MLflow experiment."""
        return self.page.split("/")[2]


def store_uri() -> str:
    """MLFLOW_TRACKING_URI when set, else an SQLite database; a relative one is at the root of the main checkout."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    scheme, _, path = uri.partition(":///")
    return sqlite_uri(storage.main_checkout() / unquote(path)) if scheme == "sqlite" else uri


def sqlite_uri(path: Path) -> str:
    """The address of a database, with no more escaped than must be: MLflow makes the folder that it names literally."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def database() -> Path | None:
    """The SQLite file of the store; None for a server."""
    scheme, _, path = store_uri().partition(":///")
    return Path(unquote(path)) if scheme == "sqlite" else None


def stored_runs_path() -> Path | None:
    """The index of the store's runs, which spares its readers MLflow: beside the database; None for a server."""
    path = database()
    return path and path.with_name(f"{path.name}.runs.json")


def save_stored_runs(path: Path, runs: list[StoredRun]) -> None:
    """Write the index of the store's runs, with the time, atomically, unless there is one that lists the same."""
    with contextlib.suppress(InputError):  # a damaged one is replaced
        if path.exists() and load_stored_runs(path) == runs:
            return
    storage.save_json(path, {"written": datetime.now(UTC).isoformat(), "runs": [asdict(run) for run in runs]})


def load_stored_runs(path: Path) -> list[StoredRun]:
    """The runs that an index lists, in its order; none where there is no index, InputError for a damaged one."""
    if not path.exists():
        return []
    try:
        return [StoredRun(**run) for run in storage.load_json(path)["runs"]]
    except (InputError, LookupError, TypeError):
        raise InputError(f"{path}: is no index of MLflow's runs; delete it, make ui writes it anew") from None


def code_hash(stage: str) -> str:
    """One sha256 over the sources that a stage depends on: of DVC's entry `stage` in dvc.yaml or study/dvc.yaml."""
    digest = hashlib.sha256()
    for path in code_of(stage):
        digest.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_of(stage: str) -> list[Path]:
    """The source files among a stage's deps; a folder stands for those below it. KeyError for an unknown stage."""
    for file in ("dvc.yaml", "study/dvc.yaml"):
        stages = yaml.load((PROJECT / file).read_text(encoding="utf-8"), Loader)["stages"]
        if stage in stages:
            deps = stages[stage].get("do", stages[stage])["deps"]
            code = [PROJECT / dep for dep in deps if dep.startswith("pipeline/")]
            return sorted(path for dep in code for path in ([dep] if dep.is_file() else dep.rglob("*.py")))
    raise KeyError(stage)


def figure_text(
    data_md5: str, weights_md5: Mapping[str, str], parameters: Mapping[str, Any], code: str, test_md5: str | None = None
) -> dict[str, str]:
    """PNG text chunks: only what is the same for the same result, so no run, time, host or commit."""
    return {
        "data.md5": data_md5,
        **({"test.md5": test_md5} if test_md5 else {}),
        **{f"{model}{WEIGHTS_TEXT}": md5 for model, md5 in weights_md5.items()},
        "parameters": json.dumps(parameters, sort_keys=True),
        "code.sha256": code,
    }


def weights_in(text: Mapping[str, str]) -> dict[str, str]:
    """The md5 of each model's weights in the text chunks of a figure."""
    return {key.removesuffix(WEIGHTS_TEXT): md5 for key, md5 in text.items() if key.endswith(WEIGHTS_TEXT)}


def hashes(path: Path) -> dict[str, str]:
    """The md5, by which DVC names a file, and the sha256 of its content, hexadecimal."""
    return {"md5": storage.md5(path), "sha256": storage.sha256(path)}


@cache  # 40 cells of the study share one lock
def locked(lock: str) -> dict[str, str]:
    """The md5 of every output that the text of a dvc.lock states, by path."""
    return {output["path"]: output["md5"] for entry in entries(lock).values() for output in entry.get("outs", ())}


def entries(lock: str) -> dict[str, Any]:
    """The entries of the text of a dvc.lock, by stage."""
    found: dict[str, Any] = (yaml.load(lock, Loader) or {}).get("stages", {})
    return found


def commit() -> tuple[str | None, bool | None]:
    """The commit that is checked out and whether code or pipeline differ from it; None, None without git.

    Parameters do not count as a difference, since a record states them; nor do results, which a stage rewrites.
    """
    places = (":/pipeline", ":/dvc.yaml", ":/study/*.yaml")
    try:
        lines = git("status", "--porcelain=v2", "--branch", "--", *places).decode().splitlines()
    except InputError:
        return None, None
    head = lines[0].removeprefix("# branch.oid ")
    return (None, None) if head == "(initial)" else (head, any(not line.startswith("#") for line in lines))
