"""How are the answers to the theory questions drawn? Numbers in, a matplotlib Figure out; saving is for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.vae.figures import DPI, WIDTH

Row = Mapping[str, float]
WINDOW = 16  # steps of a training that make a point

ESTIMATOR_NAMES = {
    "reparameterized": "reparameterized",
    "leave_one_out": "score function, baseline",
    "score_function": "score function",
}


def kl_weights(title: str, rows: Sequence[Row]) -> Figure:
    """Rate and distortion, distances and active units of trainings with several kl_weight, a row for each training."""
    figure = Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    curve, quality, units = figure.subplots(1, 3)
    curve.plot(*_columns(rows, "rate", "distortion"), "o", color="tab:blue", markersize=4)
    for row in _first_of_each(rows):
        curve.annotate(
            f"{row['kl_weight']:g}", (row["rate"], row["distortion"]), (4, 3), textcoords="offset points", fontsize=6
        )
    curve.set_xscale("log")
    curve.set_xlabel("rate, nats per image", fontsize="small")
    curve.set_title("distortion, nats per image", fontsize="small")
    for key, label in (
        ("reconstructions_frechet", "reconstructions"),
        ("prior_frechet", "prior samples"),
        ("mixture_frechet", "samples of a fitted mixture"),
    ):
        _against_weight(quality, rows, key, label)
    quality.set_title("Fréchet distance", fontsize="small")
    quality.set_ylim(0, 1.4 * quality.get_ylim()[1])  # room for the legend
    quality.legend(fontsize="x-small", loc="upper left")
    _against_weight(units, rows, "active_units", "active units")
    units.set_title("active units", fontsize="small")
    units.set_ylim(bottom=0)
    _finish(figure)
    return figure


def smoothness(title: str, rows: Sequence[Row], straight: float) -> Figure:
    """Steps in feature space and plausibility over kl_weight, a row for each training.

    `straight` is the largest step of a path that is straight and evenly walked.
    """
    figure = Figure(figsize=(WIDTH, 3.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    largest, unit, plausible = figure.subplots(1, 3)
    _against_weight(largest, rows, "largest_step", "between pictures")
    largest.axhline(straight, color="grey", linestyle=":", label="straight and even")
    largest.set_title("largest step of an interpolation", fontsize="small")
    largest.legend(fontsize="x-small")
    _against_weight(unit, rows, "unit_step", "")
    unit.set_title("a step of length 1", fontsize="small")
    _against_weight(plausible, rows, "plausible_between", "between pictures")
    _against_weight(plausible, rows, "plausible_ends", "their ends")
    plausible.set_title("plausible to the classifier", fontsize="small")
    plausible.set_ylim(0, 1)
    plausible.legend(fontsize="x-small")
    _finish(figure)
    return figure


def estimators(
    title: str, known: Sequence[Sequence[Row]], trainings: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Relative variance over latent size in a known model, rows by seed; elbo of the steps of trainings by estimator.

    elbo is the mean of WINDOW steps.
    """
    figure = Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    variance, elbo = figure.subplots(1, 2)
    for number, (key, name) in enumerate(ESTIMATOR_NAMES.items()):
        for rows in known:
            variance.loglog(*_columns(rows, "latent_dim", key), "o-", color=f"C{number}", markersize=3, linewidth=1)
        for index, values in enumerate(trainings[key]):
            means = [sum(values[i : i + WINDOW]) / WINDOW for i in range(0, len(values) - WINDOW + 1, WINDOW)]
            places = [WINDOW * (i + 0.5) for i in range(len(means))]
            elbo.plot(places, means, color=f"C{number}", linewidth=1, label=name if index == 0 else None)
    variance.set_title("relative variance, linear Gaussian model", fontsize="small")
    variance.set_xlabel("latent dimensions", fontsize="small")
    elbo.set_title("elbo of a convolutional VAE, nats per image", fontsize="small")
    elbo.set_xlabel("step", fontsize="small")
    elbo.legend(fontsize="x-small", loc="lower right")
    _finish(figure)
    return figure


def _against_weight(axes: Axes, rows: Sequence[Row], key: str, label: str) -> None:
    """Each training a point, a line through the first of each weight."""
    (points,) = axes.plot(*_columns(rows, "kl_weight", key), "o", markersize=4, label=label)
    axes.plot(*_columns(_first_of_each(rows), "kl_weight", key), color=points.get_color(), linewidth=1)
    weights = sorted({row["kl_weight"] for row in rows} - {0.0})
    axes.set_xscale("symlog", linthresh=weights[0])
    axes.set_xticks([0, *weights], [f"{weight:g}" for weight in (0, *weights)], rotation=90)
    axes.set_xlabel("kl_weight", fontsize="small")


def _first_of_each(rows: Sequence[Row]) -> list[Row]:
    first: dict[float, Row] = {}
    for row in rows:
        first.setdefault(row["kl_weight"], row)
    return [first[weight] for weight in sorted(first)]


def _columns(rows: Sequence[Row], *keys: str) -> list[list[float]]:
    return [[row[key] for row in rows] for key in keys]


def _finish(figure: Figure) -> None:
    for axes in figure.axes:
        axes.tick_params(labelsize="x-small")
        axes.grid(alpha=0.3)
