"""What did a stage do? Its record, a file in git from which its MLflow run can be told or rebuilt."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline import storage
from pipeline.tracking import lineage

if TYPE_CHECKING:
    from pipeline.params import Model

VERSIONS = ("torch", "torchvision", "numpy", "dvc", "mlflow")
CELLS = Path("study/cells")  # where each cell of the study has its workspace
CELL_VARIABLE = "STUDY_CELL"  # names the cell of the study that a stage runs for
OLDER: dict[str, Any] = dict.fromkeys(("commit", "dirty", "experiment", "cell"))  # which old records lack


@dataclass
class Record:
    """One execution of a stage; times are UTC, hashes hexadecimal, metrics by their MLflow keys."""

    stage: str  # as DVC calls it: train@fc
    parameters: Mapping[str, Any]  # those that the stage uses, by dotted key
    data_name: str
    data_md5: str | None = None  # of the training images
    test_md5: str | None = None  # of the test images, of a stage that used them; old ones had one file for all
    weights_md5: dict[str, str] = field(default_factory=dict)  # by model: the weights that were trained, or used
    history: list[dict[str, float]] = field(default_factory=list)  # per epoch
    metrics: dict[str, float] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)  # of metrics that are means over images or draws
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95%, of the same metrics
    inputs: dict[str, str] = field(default_factory=dict)  # md5 by path
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)  # md5 and sha256 by path
    run_id: str | None = None  # the MLflow run that was written while training
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    seconds: float = 0.0
    commit: str | None = "HEAD"  # of a new record; replaced at once by its hash, or None where there is none
    dirty: bool | None = None  # whether code or pipeline differed from the commit
    experiment: str | None = field(default_factory=lambda: os.environ.get("DVC_EXP_NAME"))
    cell: str | None = field(default_factory=lambda: os.environ.get(CELL_VARIABLE))  # of the study
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.commit == "HEAD":
            self.commit, self.dirty = lineage.commit()
        self._start = time.monotonic()

    @property
    def model(self) -> Model | None:
        """The model that its stage is for, if it is for one."""
        name = self.stage.partition("@")[2]
        return name if name in ("fc", "conv") else None  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """How a training is called: model, kl_weight, its cell of the study and DVC experiment, if it has one."""
        parts = (self.model, f"kl={self.parameters['kl_weight']:g}", self.cell, self.experiment)
        return " ".join(part for part in parts if part)

    @property
    def mlflow_experiment(self) -> str:
        """The MLflow experiment that its training belongs to."""
        return f"{self.data_name}/study" if self.cell else self.data_name

    @property
    def ended(self) -> str:
        """UTC, like started."""
        ended = datetime.fromisoformat(self.started) + timedelta(seconds=self.seconds)
        return ended.isoformat(timespec="milliseconds")

    def save(self, inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
        """Complete the record with the hashes of what was read and written, and write it."""
        self.inputs = {path.as_posix(): storage.md5(path) for path in inputs}
        self.outputs = {path.as_posix(): lineage.hashes(path) for path in outputs}
        system = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
        self.environment |= system | {"processor": processor()} | {name: version(name) for name in VERSIONS}
        self.seconds = self._elapsed()
        # A list of one: DVC restores metrics from its run cache, but would show every mapping in them as columns.
        storage.save_json(record_path(self.stage), [asdict(self)])

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of a stage under way, for `resume`."""
        history = [list(row.items()) for row in self.history]  # a header's own keys are sorted
        return {"history": history, "run_id": self.run_id, "started": self.started, "seconds": self._elapsed()}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Go on from what another process did of the stage; the time in between does not count."""
        self.history = [dict(row) for row in progress["history"]]
        self.run_id, self.started = progress["run_id"], progress["started"]
        self._start -= progress["seconds"]

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._start, 3)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The record in a file, of this version or another; InputError for what is none."""
        with storage.reading(path, "is not a record of a stage"):
            (known,) = storage.load_json(path)
            return cls(**OLDER | {each.name: known[each.name] for each in fields(cls) if each.name in known})


def processor() -> str:
    """The kind of CPU: its name, and the widest of the instructions that decide which kernels compute, and so the bits.

    Without /proc, as on macOS, the name alone.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", found.get("Features", "")).split()
    widest = next((flag for flag in ("amx_bf16", "avx512f", "avx2", "asimd") if flag in flags), "")
    return ", ".join(filter(None, (found.get("model name", platform.machine()), widest)))


def record_path(stage: str) -> Path:
    """The file of a stage's record."""
    return storage.RUNS / f"{stage}.json"


def load_records(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their stages' names."""
    return [Record.load(path) for path in sorted(folder.glob("*.json"))]


def record_folders(root: Path = Path()) -> list[Path]:
    """Where a checkout has records: of its own pipeline, of README's comparisons, of the study's cells, of the demo."""
    runs = storage.RUNS.name
    folders = [*sorted((root / storage.REPORTS).glob(f"**/{runs}")), root / "demo" / runs]
    folders += sorted(root.glob(f"{CELLS}/*/{storage.RUNS}"))
    return [folder for folder in folders if folder.is_dir()]


def beside(folder: Path, path: Path) -> Path:
    """Where a record's file lies when its folder of records was copied: demo/runs stands for reports/runs."""
    if path.is_relative_to(storage.REPORTS):
        return folder.parent / path.relative_to(storage.REPORTS)
    return folder.parent.parent / path


def lock_beside(folder: Path) -> Path | None:
    """The dvc.lock that was written with a folder of records, if it is there.

    ./dvc.lock for reports/runs, study/dvc.lock for the study's cells, else inside, as in demo/.
    """
    places = [folder.parents[3]] if _of_a_cell(folder) else [folder.parent, folder.parent.parent]
    return next((place / "dvc.lock" for place in places if (place / "dvc.lock").exists()), None)


def locked_beside(folder: Path) -> dict[str, str]:
    """The md5 of every output that this dvc.lock states, by path as records call it; empty without one."""
    lock = lock_beside(folder)
    if lock is None:
        return {}
    with storage.reading(lock, "is no dvc.lock", "; restore it from git"):
        locked = lineage.locked(lock.read_text(encoding="utf-8"))
    prefix = f"{CELLS}/{folder.parents[1].name}/" if _of_a_cell(folder) else ""
    return {path.removeprefix(prefix): md5 for path, md5 in locked.items() if path.startswith(prefix)}


def _of_a_cell(folder: Path) -> bool:
    """Whether a folder has the records of a cell of the study."""
    return folder.match(f"{CELLS}/*/{storage.RUNS}")
