"""What did the study find, in words? reports/README.md, and the templates of tables that README and the page share."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline import storage
from pipeline.params import Model
from pipeline.tracking.records import Record

PAGE = storage.REPORTS / "README.md"
CLAIMS, THEORY = storage.REPORTS / "claims.json", storage.REPORTS / "theory.json"
FOLDER = Path(__file__).parent / "templates"

Estimate = Mapping[str, Any]  # a value, and its 95% interval or None


def main() -> None:
    """Write reports/README.md."""
    claims, theory = storage.load_json(CLAIMS), storage.load_json(THEORY)
    with storage.replacing(PAGE) as partial:
        partial.write_text(render_report(claims, theory), encoding="utf-8")
    record = Record("report", {}, theory["data"]["name"], theory["data"]["md5"])
    record.save([CLAIMS, THEORY], [PAGE])


def render_report(claims: Mapping[str, Any], theory: Mapping[str, Any]) -> str:
    """The text of reports/README.md, from claims.json and theory.json."""
    weights = {f"{row['kl_weight']:g}": row for row in theory["sweep"]}
    return TEMPLATES.get_template("report.md.j2").render(
        claims=claims,
        theory=theory,
        weights=weights,
        by=lambda key: sorted(weights, key=lambda weight: weights[weight][key]["value"]),
    )


class Reports:
    """What templates of tables ask for: numbers below the reports/ of a checkout."""

    def __init__(self, root: Path) -> None:
        self.folder = root / storage.REPORTS

    def load(self, name: str) -> Any:
        """The content of a JSON file."""
        return storage.load_json(self.folder / name)

    def record(self, name: str) -> Record:
        """A stage's record."""
        return Record.load(self.folder / name)

    def measured(self, model: Model) -> dict[str, Estimate]:
        """A model's test metrics."""
        intervals = self.record(f"runs/evaluate@{model}.json").intervals
        metrics: Mapping[str, float] = self.load(f"metrics/{model}.json")
        return {key: {"value": value, "interval": intervals.get(f"test/{key}")} for key, value in metrics.items()}

    def test_images(self) -> str:
        """Of how many test images their numbers are."""
        return f"{self.record('runs/download.json').metrics['images/test']:,.0f} test images"

    def floor(self) -> dict[str, Estimate]:
        """Distances of training images from validation images."""
        floor: Mapping[str, float] = self.load("calibration.json")["floor"]
        intervals = {key: (floor[f"{key}_low"], floor[f"{key}_high"]) for key in floor if f"{key}_low" in floor}
        return {key: {"value": value, "interval": intervals.get(key)} for key, value in floor.items()}


def number(value: float, form: str) -> str:
    """A value in a form of `format`; "d" also takes whole floats."""
    return format(int(value) if form.endswith("d") else value, form)


def shown(estimate: Estimate, form: str) -> str:
    """A mean, with its interval where it has one.

    >>> shown({"value": 2.0, "interval": (1.5, 2.5)}, ".1f")
    '2.0 (1.5 to 2.5)'
    """
    value, interval = number(estimate["value"], form), estimate["interval"]
    return f"{value} ({number(interval[0], form)} to {number(interval[1], form)})" if interval else value


def plus_minus(estimate: Estimate, form: str) -> str:
    """A mean, with half of the width of its interval where it has one.

    >>> plus_minus({"value": 2.0, "interval": (1.5, 2.5)}, ".1f")
    '2.0 ± 0.5'
    """
    value, interval = number(estimate["value"], form), estimate["interval"]
    return f"{value} ± {number((interval[1] - interval[0]) / 2, form)}" if interval else value


def one_line(text: str) -> str:
    """Text of several lines as one, so that templates may break lines where Markdown may not."""
    return " ".join(text.split())


def slug(heading: str) -> str:
    """What GitHub calls a heading in links.

    >>> slug("1. A=0 is darker.")
    '1-a0-is-darker'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, autoescape=select_autoescape(("html.j2", "svg.j2")),
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip
TEMPLATES.filters |= {"number": number, "shown": shown, "plus_minus": plus_minus, "one_line": one_line, "slug": slug}
