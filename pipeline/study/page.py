"""What did the project find, on one page? reports/index.html: tables, figures and curves, all in one file."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from pipeline import storage
from pipeline.params import MODELS, NAMES
from pipeline.study.report import PAGE as WORDS
from pipeline.study.report import TEMPLATES, THEORY, Reports, slug
from pipeline.tracking.lineage import weights_in
from pipeline.tracking.records import Record, load_records, record_folders

PAGE = storage.REPORTS / "index.html"
HEADING = re.compile(r"<h([23])>(.*)</h\1>")
IMAGE = re.compile(r'<img src="(?P<source>[^"]+)" alt="(?P<alt>[^"]*)" ?/?>')
IMAGES = re.compile(rf"<p>((?:{IMAGE.pattern}\s*)+)</p>")
WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 12, 44  # around the area of the curves


def main() -> None:
    """Write reports/index.html."""
    with storage.replacing(PAGE) as partial:
        partial.write_text(render_page(Path()), encoding="utf-8")
    theory = storage.load_json(THEORY)
    shown = [storage.REPORTS / source for source in re.findall(r"\]\((figures/\S+\.png)\)", WORDS.read_text("utf-8"))]
    tables = [storage.CURVES / f"{model}{name}.csv" for model in MODELS for name in ("", "_dimensions")]
    metrics = [storage.METRICS / f"{model}.json" for model in MODELS] + [storage.REPORTS / "calibration.json"]
    record = Record("page", {}, theory["data"]["name"], theory["data"]["md5"])
    record.save([WORDS, THEORY, *shown, *tables, *metrics], [PAGE])


def render_page(root: Path) -> str:
    """The page of the reports below `root`."""
    reports, kl_weights = Reports(root), kl_weights_of_trainings(root)

    def figure(path: Path, alt: str) -> Markup:
        """An image and under it, in one line, what it was made from."""
        data, text = base64.b64encode((root / path).read_bytes()).decode(), storage.load_figure_text(root / path)
        template = TEMPLATES.get_template("figure.html.j2")
        shown = {"weights_md5": weights_in(text), "kl_weights": kl_weights, "data_md5": text["data.md5"]}
        return Markup(template.render(path=path, alt=alt, data=data, **shown).strip())

    def figures(images: str) -> str:
        """The images of a paragraph, side by side where there is room."""
        found = (figure(storage.REPORTS / image["source"], image["alt"]) for image in IMAGE.finditer(images))
        return f'<div class="figures">{"".join(found)}</div>'

    words = html((root / WORDS).read_text(encoding="utf-8").partition("\n")[2])  # less its title
    text = TEMPLATES.get_template("page.html.j2").render(
        data=reports.load("theory.json")["data"]["name"],
        test_images=reports.test_images(),
        results=html(TEMPLATES.get_template("results.md.j2").render(reports=reports)),
        distances=html(TEMPLATES.get_template("distances.md.j2").render(reports=reports)),
        charts=curves(root),
        words=Markup(IMAGES.sub(lambda paragraph: figures(paragraph[1]), words)),
    )
    return text.strip()


def html(markdown: str) -> Markup:
    """Markdown of the reports, tables included, as HTML; headings can be linked to, as on GitHub."""
    text = MarkdownIt("commonmark").enable("table").render(markdown)
    return Markup(HEADING.sub(lambda match: f'<h{match[1]} id="{slug(match[2])}">{match[2]}</h{match[1]}>', text))


def kl_weights_of_trainings(root: Path) -> dict[str, float]:
    """The kl_weight of every training on record, by the md5 of its weights."""
    return {
        md5: record.parameters["kl_weight"]
        for folder in record_folders(root)
        for record in load_records(folder)
        if record.stage.startswith("train@")
        for md5 in record.weights_md5.values()
    }


def curves(root: Path) -> dict[str, Markup]:
    """Charts by their titles."""
    found = {}
    for key in ("elbo", "rate"):
        title = f"{key} on validation images, nats per image"
        series = by_model(root / storage.CURVES, ".csv", "epoch", f"validation/{key}", "epoch {:g}: {:.1f}")
        late = {name: points[1:] or points for name, points in series.items()}  # the first epoch is far off
        found[title] = chart(title, "epoch", late)
    title = "rate of each latent dimension, nats per image"
    series = by_model(root / storage.CURVES, "_dimensions.csv", "rank", "rate", "dimension ranked {:g}: {:.2f}")
    found[title] = chart(title, "latent dimensions, ranked by rate", series, radius=2)
    theory, title = storage.load_json(root / THEORY), "distortion over rate by kl_weight, nats per image"
    sweeps = {NAMES["fc"]: theory["sweep_fc"], NAMES["conv"]: theory["sweep"]}
    label = "{}, kl_weight {:g}: rate {:.1f}, distortion {:.0f}"
    points: dict[str, list[Point]] = {name: [] for name in sweeps}
    for name, row in ((name, row) for name, sweep in sweeps.items() for row in sweep):
        place = row["rate"]["value"], row["distortion"]["value"]
        points[name].append(Point(*place, label.format(name, row["kl_weight"], *place)))
    found[title] = chart(title, "rate", points, logarithmic=True)
    return found


def by_model(folder: Path, file: str, x: str, y: str, label: str) -> dict[str, list[Point]]:
    """Points of two columns of each model's table; `label` says in a form of `format` what both tell."""
    tables = {name: storage.load_table(folder / f"{model}{file}") for model, name in NAMES.items()}
    return {
        name: [Point(*values, f"{name}, {label.format(*values)}") for values in zip(table[x], table[y], strict=True)]
        for name, table in tables.items()
    }


@dataclass(frozen=True)
class Point:
    """A point of a curve."""

    x: float
    y: float
    label: str  # what a reader of the chart is told of it


@dataclass(frozen=True)
class Axis:
    """Where values lie: `low` at `start`, `high` at `end`, both in SVG units."""

    label: str
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, in SVG units."""
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (at - low) / ((high - low) or 1), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Places of round values, and their labels."""
        locator = LogLocator() if self.logarithmic else MaxNLocator(6)
        values = locator.tick_values(self.low, self.high)
        return [(self.place(value), f"{value:g}") for value in values if self.low <= value <= self.high]


def chart(
    title: str, x_label: str, series: Mapping[str, Sequence[Point]], logarithmic: bool = False, radius: float = 4
) -> Markup:
    """Curves of named points; `logarithmic` is the axis of x."""
    xs, ys = zip(*((point.x, point.y) for curve in series.values() for point in curve), strict=True)
    margin = 0.05 * (max(ys) - min(ys))
    x = Axis(x_label, min(xs), max(xs), LEFT, WIDTH - RIGHT, logarithmic)
    y = Axis("", min(ys) - margin, max(ys) + margin, HEIGHT - BOTTOM, TOP)
    template = TEMPLATES.get_template("chart.svg.j2")
    return Markup(template.render(title=title, x=x, y=y, series=series, width=WIDTH, height=HEIGHT, radius=radius))
