"""How are numbers drawn? Curves and points in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.figures import DPI, WIDTH
from pipeline.params import COLORS, NAMES, Model

MOST_NAMED = 20  # classes that a legend names
WINDOW = 16  # steps of a training that make a point
UNITS = {
    "noise": "noise, deviation in grey levels",
    "blur": "blur, deviation in pixels",
    "dropped classes": "dropped classes of ten",
}

ESTIMATORS = {
    "reparameterized": "reparameterized",
    "leave_one_out": "score function, baseline",
    "score_function": "score function",
}

Series = Mapping[str, Sequence[float]]
Row = Mapping[str, float]


def latent_map(title: str, maps: Mapping[Model, Tensor], labels: Tensor, classes: Sequence[str]) -> Figure:
    """Points [N, 2] by model, coloured by class; of more than MOST_NAMED classes the legend says only how."""
    figure, panels = _panels(title, 4.4, [NAMES[model] for model in maps], [""] * len(maps))
    count = len(classes)
    if count <= MOST_NAMED:
        names, families = drawable(classes)
        colors: list[Any] = [f"C{number}" if count <= 10 else colormaps["tab20"](number) for number in range(count)]
    else:
        colors = [colormaps["turbo"](number / (count - 1)) for number in range(count)]
    for axes, points in zip(panels, maps.values(), strict=True):
        for number, color in enumerate(colors):
            chosen = points[labels == number]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=1.5, color=color, alpha=0.4, linewidths=0)
        axes.tick_params(labelsize="x-small")
        axes.set_aspect("equal")
    if count <= MOST_NAMED:
        legend = figure.legend(
            axes.collections, names, loc="outside lower center", ncols=5, fontsize="x-small", markerscale=5
        )
        for text in legend.get_texts():
            text.set_fontfamily(families)
            text.set_parse_math(False)  # a class may be called $5_$10
    else:
        figure.supxlabel(f"{count} classes, from blue to red in the order of their names", fontsize="x-small")
    return figure


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    r"""Names as a legend can show them, and the families of fonts that do; what no font here has becomes \u...."""
    own = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    missing, families = {ord(character) for name in names for character in name} - own.keys(), ["DejaVu Sans"]
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.name) if missing else ():
        found = missing & font_manager.get_font(entry.fname).get_charmap().keys()
        if found:
            families.append(entry.name)
            missing -= found
    escapes = {code: chr(code).encode("ascii", "backslashreplace").decode() for code in missing}
    shown = [name.translate(escapes) for name in names]
    return [f" {name}" if name.startswith("_") else name for name in shown], families  # matplotlib hides _ names


def training_curves(title: str, curves: Mapping[Model, Series]) -> Figure:
    """elbo, rate and distortion over epochs; `curves` by model, columns epoch, train/elbo, validation/elbo, ..."""
    terms = ("elbo", "distortion", "rate")
    figure, panels = _panels(title, 3.0, [f"{term}, nats per image" for term in terms], ["epoch"] * 3)
    for axes, term in zip(panels, terms, strict=True):
        for model, columns in curves.items():
            marker = "o" if len(columns["epoch"]) == 1 else None
            line = {"color": COLORS[model], "linewidth": 1.5, "marker": marker}
            axes.plot(columns["epoch"], columns[f"validation/{term}"], label=NAMES[model], **line)
            axes.plot(columns["epoch"], columns[f"train/{term}"], linestyle=":", **line)
        axes.xaxis.get_major_locator().set_params(integer=True)
        late = [value for columns in curves.values() for value in columns[f"validation/{term}"][1:]]
        if late:  # the first epoch is far off: leave it out of the limits, so that the rest can be told apart
            margin = 0.1 * (max(late) - min(late)) + 1
            axes.set_ylim(min(late) - margin, max(late) + margin)
    axes.plot([], [], color="grey", label="validation")
    axes.plot([], [], color="grey", linestyle=":", label="train")
    axes.legend(fontsize="x-small")
    return _finished(figure)


def rate_per_dimension(title: str, rates: Mapping[Model, Sequence[float]]) -> Figure:
    """Mean rate of each latent dimension, largest first; `rates` by model, nats."""
    figure = Figure(figsize=(WIDTH, 3.0), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize="medium")
    for model, values in rates.items():
        ranked = sorted(values, reverse=True)
        label = f"{NAMES[model]}: {sum(ranked):.1f} nats in all"
        axes.step(range(1, len(ranked) + 1), ranked, where="mid", color=COLORS[model], label=label)
    axes.set_xlabel("latent dimensions, ranked by rate", fontsize="small")
    axes.set_ylabel("rate, nats per image", fontsize="small")
    axes.legend(fontsize="small")
    return _finished(figure)


def damages(title: str, ladders: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Distances of damaged and generated images: above Fréchet with its floor, below how the sets cover each other.

    `ladders` has the distances by kind of damage and strength; under "floor" those of undamaged images.
    """
    floor = ladders["floor"]
    kinds = {kind: rungs for kind, rungs in ladders.items() if kind != "floor"}
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    above, below = figure.subplots(2, len(kinds), sharey="row", sharex="col")
    for top, bottom, (kind, rungs) in zip(above, below, kinds.items(), strict=True):
        damaged = kind in UNITS  # by strength from none on; generated images are no damage of others
        steps = [floor, *rungs.values()] if damaged else [*rungs.values()]
        strengths = [0.0, *map(float, rungs)] if damaged else [*rungs]
        top.plot(strengths, [step["frechet"] for step in steps], "ko-", markersize=3)
        top.axhline(floor["frechet"], color="grey", linestyle=":", label=f"floor {floor['frechet']:.2f}")
        for name in ("precision", "recall", "density", "coverage"):
            bottom.plot(strengths, [step[name] for step in steps], "o-", ms=3, label=name)
        bottom.set_xlabel(UNITS.get(kind, kind), fontsize="small")
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    above[0].set_ylabel("Fréchet distance", fontsize="small")
    above[0].legend(fontsize="x-small")
    below[0].legend(fontsize="x-small")
    return _finished(figure)


def quality_by_radius(title: str, curves: Mapping[Model, Sequence[Sequence[Row]]]) -> Figure:
    """Distances and density over radius; `curves` by model, one a training."""
    labels = {"frechet": "Fréchet distance", "kernel": "kernel distance", "density": "density among real images"}
    figure, panels = _panels(title, 3.0, list(labels.values()), ["distance from the centre"] * 3)
    for axes, key in zip(panels, labels, strict=True):
        for model, trainings in curves.items():
            for number, rows in enumerate(trainings):
                name = NAMES[model] if number == 0 else None
                axes.plot(*_columns(rows, "radius", key), color=COLORS[model], label=name)
        radii = [row["radius"] for row in next(iter(curves.values()))[0]]
        axes.axvline(radii[-1] / 2, color="grey", linestyle=":", label="typical shell")
    axes.set_yscale("log")  # of density: the one image at the centre lies among many
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize="x-small")
    return _finished(figure)


def luminance_walks(title: str, walks: Mapping[Model, Sequence[Mapping[str, Any]]]) -> Figure:
    """Mean luminance along z = A·1 and along the direction that explains it best; `walks` by model, one a training."""
    below = ["A, along z = A·1", "deviations along the direction of luminance"]
    figure, (left, right) = _panels(title, 3.0, ["", ""], below, sharey=True)
    for axes, key, start, end in ((left, "ones", 0.0, 1.0), (right, "direction", -3.0, 3.0)):
        for model, trainings in walks.items():
            for number, walk in enumerate(trainings):
                values = walk[f"{key}_luminance"]
                places = [start + (end - start) * step / (len(values) - 1) for step in range(len(values))]
                axes.plot(places, values, color=COLORS[model], label=NAMES[model] if number == 0 else None)
    left.set_ylabel("mean luminance, 0 to 1", fontsize="small")
    left.legend(fontsize="x-small")
    return _finished(figure)


def kl_weights(title: str, rows: Sequence[Row], rows_fc: Sequence[Row]) -> Figure:
    """Rate and distortion, distances and active units of trainings with several kl_weight, a row for each training.

    `rows_fc` has rate and distortion of the fully connected network.
    """
    above = ["distortion, nats per image", "Fréchet distance, conv", "active units, conv"]
    below = ["rate, nats per image", "kl_weight", "kl_weight"]
    figure, (curve, quality, units) = _panels(title, 3.2, above, below)
    trainings: Mapping[Model, Sequence[Row]] = {"fc": rows_fc, "conv": rows}
    for model, points in trainings.items():
        curve.plot(*_columns(points, "rate", "distortion"), "o", color=COLORS[model], markersize=4)
        first = _first_of_each(points)
        curve.plot(*_columns(first, "rate", "distortion"), color=COLORS[model], linewidth=1, label=NAMES[model])
        for row in first:
            place = (row["rate"], row["distortion"])
            curve.annotate(f"{row['kl_weight']:g}", place, (4, 3), textcoords="offset points", fontsize=6)
    curve.set_xscale("log")
    curve.legend(fontsize="x-small")
    for key, label in (
        ("reconstructions_frechet", "reconstructions"),
        ("prior_frechet", "prior samples"),
        ("mixture_frechet", "samples of a fitted mixture"),
    ):
        _against_weight(quality, rows, key, label)
    quality.set_ylim(0, 1.4 * quality.get_ylim()[1])  # room for the legend
    quality.legend(fontsize="x-small", loc="upper left")
    _against_weight(units, rows, "active_units", "active units")
    units.set_ylim(bottom=0)
    return _finished(figure)


def smoothness(title: str, rows: Sequence[Row], straight: float) -> Figure:
    """Steps in feature space and density among real images over kl_weight, a row for each training.

    `straight` is the largest step of a path that is straight and evenly walked.
    """
    above = ["largest step of an interpolation", "a step of length 1", "density among real images"]
    figure, (largest, unit, density) = _panels(title, 3.0, above, ["kl_weight"] * 3)
    _against_weight(largest, rows, "largest_step", "between images")
    largest.axhline(straight, color="grey", linestyle=":", label="straight and even")
    largest.legend(fontsize="x-small")
    _against_weight(unit, rows, "unit_step", "")
    _against_weight(density, rows, "density_between", "between images")
    _against_weight(density, rows, "density_ends", "their ends")
    density.set_ylim(bottom=0)
    density.legend(fontsize="x-small")
    return _finished(figure)


def estimators(
    title: str, known: Sequence[Sequence[Row]], trainings: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Relative variance over latent size in a known model, rows by seed; elbo of the steps of trainings by estimator.

    elbo is the mean of WINDOW steps.
    """
    above = ["relative variance, linear Gaussian model", "elbo of a convolutional VAE, nats per image"]
    figure, (variance, elbo) = _panels(title, 3.2, above, ["latent dimensions", "step"])
    for number, (key, name) in enumerate(ESTIMATORS.items()):
        for rows in known:
            variance.loglog(*_columns(rows, "latent_dim", key), "o-", color=f"C{number}", markersize=3, linewidth=1)
        for index, values in enumerate(trainings[key]):
            means = [sum(values[i : i + WINDOW]) / WINDOW for i in range(0, len(values) - WINDOW + 1, WINDOW)]
            places = [WINDOW * (i + 0.5) for i in range(len(means))]
            elbo.plot(places, means, color=f"C{number}", linewidth=1, label=name if index == 0 else None)
    elbo.legend(fontsize="x-small", loc="lower right")
    return _finished(figure)


def _against_weight(axes: Axes, rows: Sequence[Row], key: str, label: str) -> None:
    """Each training a point, a line through the first of each weight."""
    (points,) = axes.plot(*_columns(rows, "kl_weight", key), "o", markersize=4, label=label)
    axes.plot(*_columns(_first_of_each(rows), "kl_weight", key), color=points.get_color(), linewidth=1)
    weights = sorted({row["kl_weight"] for row in rows} - {0.0})
    axes.set_xscale("symlog", linthresh=weights[0])
    axes.set_xticks([0, *weights], [f"{weight:g}" for weight in (0, *weights)], rotation=90)


def _first_of_each(rows: Sequence[Row]) -> list[Row]:
    first = {row["kl_weight"]: row for row in reversed(rows)}
    return [first[weight] for weight in sorted(first)]


def _columns(rows: Sequence[Row], *keys: str) -> list[list[float]]:
    return [[row[key] for row in rows] for key in keys]


def _panels(
    title: str, height: float, above: Sequence[str], below: Sequence[str], sharey: bool = False
) -> tuple[Figure, Any]:
    """A figure `height` inches high, and its axes side by side, with a title above and a label below each."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(above), sharey=sharey, squeeze=False)[0]
    for axes, name, label in zip(panels, above, below, strict=True):
        axes.set_title(name, fontsize="small")
        axes.set_xlabel(label, fontsize="small")
    return figure, panels


def _finished(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.tick_params(labelsize="x-small")
        axes.grid(alpha=0.3)
    return figure
