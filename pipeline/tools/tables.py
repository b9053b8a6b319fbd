"""Which numbers do README and docs/ show? Tables made from reports/, between markers that name their templates."""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import FileSystemLoader

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.intervals import geometric_mean
from pipeline.params import STUDY_PARAMS, Model, load_yaml
from pipeline.study.assignment import NOTEBOOK
from pipeline.study.report import FOLDER, TEMPLATES, Estimate, Reports, shown
from pipeline.tracking.records import CELLS, Record, record_path

COMPARISONS = storage.REPORTS / "comparisons"  # what no stage measures: benchmarks and comparisons with others
BLOCK = re.compile(r"(?P<start><!-- (?P<name>\w+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)
TABLES = (
    "summary", "results", "distances", "calibration", "claims", "budgets", "likelihoods", "assignment", "better",
    "peers", "tracking", "speed", "costs",
)  # fmt: skip


def main() -> None:
    """Fill in anew the tables of README and docs/."""
    for page in pages():
        text = with_tables(page.read_text(encoding="utf-8"), Path())
        with storage.replacing(page) as partial:
            partial.write_text(text, encoding="utf-8")


def pages(root: Path = Path()) -> list[Path]:
    """README.md and docs/*.md below `root`."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def with_tables(text: str, root: Path) -> str:
    """`text` with each marked table made anew from the reports below `root`; InputError for an unknown marker."""
    require_known_tables(text)
    return BLOCK.sub(lambda block: block["start"] + table(block["name"], root) + block["end"], text)


def require_known_tables(text: str) -> None:
    """InputError for a marker to which no table belongs."""
    for block in BLOCK.finditer(text):
        if block["name"] not in TABLES:
            raise InputError(f"README or docs/: found the marker {block['name']}, expected one of {', '.join(TABLES)}")


def table(name: str, root: Path) -> str:
    """One of TABLES, made from the reports and the study's cells below `root`."""

    def over_seeds(cell: str, model: Model, key: str) -> Estimate:
        """The geometric mean of a metric over the study's cells of that name, which differ in seed."""
        files = (root / CELLS).glob(f"{cell}-[0-9]/{storage.METRICS}/{model}.json")
        mean = geometric_mean([storage.load_json(file)[key] for file in sorted(files)])
        return {"value": mean.value, "interval": (mean.low, mean.high)}

    def cell(name: str) -> Reports:
        """What one of the study's cells reports."""
        return Reports(root / CELLS / name)

    def trainings(cell: str, model: Model) -> list[Record]:
        """The records of the trainings in these cells."""
        files = (root / CELLS).glob(f"{cell}-[0-9]/{record_path(f'train@{model}')}")
        return [Record.load(file) for file in sorted(files)]

    def processors() -> Counter[str]:
        """On which kinds of processor the study's trainings ran, and how many on each."""
        records = map(Record.load, (root / CELLS).glob(f"*/{record_path('train@*')}"))
        return Counter(record.environment.get("processor", "a kind that was not recorded") for record in records)

    template = ENVIRONMENT.get_template(f"{name}.md.j2")
    return template.render(
        reports=Reports(root), cell=cell, study=load_yaml(root / STUDY_PARAMS), over_seeds=over_seeds,
        trainings=trainings, processors=processors, notebook=NOTEBOOK,
    )  # fmt: skip


def thread_seconds(records: Sequence[Record]) -> float:
    """The mean time of trainings in seconds, times the threads that each had."""
    return statistics.mean(record.seconds * int(record.environment["threads"]) for record in records)


def median(values: Sequence[float], form: str = ".2f") -> str:
    """The median of some rounds and, in parentheses, what they range over."""
    return shown({"value": statistics.median(values), "interval": (min(values), max(values))}, form)


ENVIRONMENT = TEMPLATES.overlay(loader=FileSystemLoader([Path(__file__).parent / "templates", FOLDER]))
ENVIRONMENT.filters |= {"median": median, "thread_seconds": thread_seconds}
ENVIRONMENT.filters["array"] = np.array  # so that rounds are divided one by one
