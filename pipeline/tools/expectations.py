"""What is expected of a cell of the study, and does running it again here find the same?"""

import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import STUDY_PARAMS, load_yaml
from pipeline.study.cells import GROUPS, STUDY, cell_of, stages_by_cell
from pipeline.tracking.experiments import export, forget_experiment, run_experiment
from pipeline.tracking.records import CELLS, load_records, processor

SHARES = ("precision", "recall", "coverage", "accuracy", "ssim", "outside")  # as their names end, of 0 to 1 here

Numbers = dict[str, float]


def show(cell: str) -> None:
    """List all cells, or tell of one how it is made, what differs from params.yaml, and what it measured."""
    if not cell:
        for name in (name for group in GROUPS for name in load_yaml(STUDY_PARAMS)[group]):
            model, changes = cell_of(name)
            print(f"{name:24}  {model:4}  {overrides(changes)}")
        return
    model, changes = cell_of(cell)
    print(f"{cell}: {model} with {overrides(changes) or 'the settings of params.yaml'}\n\n  {repro_command(cell)}\n")
    if not (found := measured(Path(), cell)):
        raise InputError(
            f"{CELLS / cell}: found no results, expected those of an earlier run; type {repro_command(cell)}"
        )
    for record in load_records(CELLS / cell / storage.RUNS):
        ran_on = record.environment.get("processor", "a processor that was not recorded")
        print(f"  {record.stage:20} {record.seconds:6.0f} s on {ran_on}, commit {(record.commit or 'unknown')[:10]}")
    ranges = expected(cell)
    print(f"\n  {'measured':40} {'found':>12}   expected of another seed, in 95 of 100")
    for name, value in found.items():
        low_high = "{:.6g} to {:.6g}".format(*ranges[name]) if name in ranges else "unknown: too few seeds"
        print(f"  {name:40} {value:12.6g}   {low_high}")


def rerun(cell: str) -> None:
    """Run a cell's stages anew in a temporary copy and compare; exit status 1 where a number leaves its range."""
    show(cell)
    name = f"rerun-{cell}"
    revision = run_experiment(name, [], ["--force", "--single-item", *targets(cell)])
    with tempfile.TemporaryDirectory() as copy:
        export(revision, Path(copy), (CELLS / cell).as_posix())
        found = measured(Path(copy), cell)
        told = [record.environment.get("processor") for record in load_records(CELLS / cell / storage.RUNS)]
    forget_experiment(name)
    before, ranges = measured(Path(), cell), expected(cell)
    print(f"\nMade again on {processor()}:")
    if found == before:
        print("the same bits in every number")
        return
    for key in before.keys() | found.keys():
        if key not in before or key not in found:
            raise InputError(f"{cell}: {key} was measured only once of twice; expected the same code and parameters")
    verdicts = {key: verdict(found[key], before[key], ranges.get(key)) for key in before}
    for key, says in verdicts.items():
        print(f"  {key:40} {before[key]:12.6g} {found[key]:12.6g}   {says}")
    if set(told) != {processor()}:
        print("another kind of processor adds in another order, so last bits differ, and trainings magnify them")
    sys.exit("outside" in verdicts.values())


def verdict(found: float, before: float, low_high: tuple[float, float] | None) -> str:
    """How a number that was measured again compares with the one before and the range that seeds give it."""
    if found == before:
        return "same bits"
    if low_high is None:
        return "differs; of how much is usual, one seed does not tell"
    low, high = low_high
    return "within" if low <= found <= high else "outside"


def overrides(changes: Mapping[str, object]) -> str:
    """Parameters as the command line takes them."""
    return " ".join(f"{key}={value}" for key, value in changes.items())


def repro_command(cell: str) -> str:
    """The exact command that makes a cell."""
    return f"dvc repro {' '.join(targets(cell))}"


def targets(cell: str) -> list[str]:
    """A cell's stages as DVC calls them, in their order."""
    return [f"{STUDY}:{stage}@{cell}" for stage in stages_by_cell()[cell]]


def expected(cell: str) -> dict[str, tuple[float, float]]:
    """Between what 95 of 100 further trainings would lie that differ in seed alone, by Student's t, for each number.

    Of cells with at least three trainings; on logs where all are positive, and never beyond what a number can be
    (Hahn & Meeker 1991).
    """
    rows = [row for twin in twins(cell) if (row := measured(Path(), twin))]
    if len(rows) < 3:
        return {}
    from pipeline.metrics.intervals import over_draws, quantile  # SciPy and PyTorch take seconds

    found = {}
    for name in set.intersection(*(set(row) for row in rows)):
        values = [row[name] for row in rows]
        positive = min(values) > 0
        mean = over_draws([math.log(value) for value in values] if positive else values)
        half = quantile(mean.count) * mean.standard_error * math.sqrt(mean.count + 1)
        low, high = mean.value - half, mean.value + half
        if positive:
            low, high = math.exp(low), math.exp(high)
        least = -1.0 if name.startswith("luminance.") else 0.0  # rank correlations
        if name.endswith(SHARES) or least < 0:
            low, high = max(low, least), min(high, 1.0)
        found[name] = (low, high)
    return found


def twins(cell: str) -> list[str]:
    """The cells that differ from one in their seed alone, with itself."""

    def but_for_its_seed(name: str) -> object:
        model, changes = cell_of(name)
        return model, {key: value for key, value in changes.items() if key != "seed"}

    study = load_yaml(STUDY_PARAMS)
    group = next(study[group] for group in GROUPS if cell in study[group])
    return [name for name in group if but_for_its_seed(name) == but_for_its_seed(cell)]


def measured(root: Path, cell: str) -> Numbers:
    """Every number that the stages of a cell found, by dotted name; lists of measurements are passed over."""
    files = sorted((root / CELLS / cell / storage.METRICS).glob("*.json"))
    return {name: value for file in files for name, value in numbers_in(storage.load_json(file)).items()}


def numbers_in(content: Mapping[str, object], prefix: str = "") -> Numbers:
    """The numbers in nested mappings, by dotted name; of an interval, what it is of."""
    found: Numbers = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and "value" in value:
            found[f"{prefix}{key}"] = float(value["value"])
        elif isinstance(value, Mapping):
            found |= numbers_in(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            found[f"{prefix}{key}"] = float(value)
    return found
