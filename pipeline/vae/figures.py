"""How are results drawn? Arrays in, a matplotlib Figure out; saving is for others.

Pictures are uint8 [N, 3, 32, 32]; every figure is readable at the width of a README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from pipeline.params import Model

WIDTH = 8.0  # inches
DPI = 130
COLORS = {"fc": "tab:orange", "conv": "tab:blue"}
NAMES = {"fc": "fully connected", "conv": "convolutional"}
BORDER = 2  # pixels around each picture of a grid
PITCH = 32 + BORDER
UNITS = {
    "noise": "noise, deviation in grey levels",
    "blur": "blur, deviation in pixels",
    "dropped classes": "dropped classes of ten",
}

Series = Mapping[str, Sequence[float]]


def samples(title: str, images: Tensor) -> Figure:
    """Prior samples in a square grid."""
    columns = max(1, round(len(images) ** 0.5))
    figure = Figure(figsize=(0.75 * WIDTH, 0.75 * WIDTH + 0.3), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    _show(figure.subplots(), images, columns)
    return figure


def rows_of_pictures(title: str, panels: Mapping[Any, Sequence[tuple[str, Tensor]]]) -> Figure:
    """Panels side by side, each of labelled rows of equally many pictures; labels that the panels share stand once."""
    rows, columns = (len(first := next(iter(panels.values()))), len(first[0][1]))
    width = 11.0 if len(panels) > 1 else WIDTH
    height = 0.6 + 0.2 * title.count("\n") + (width - 1.3 * len(panels)) / (len(panels) * columns) * rows
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    shared = len({tuple(label for label, _ in panel) for panel in panels.values()}) == 1
    for index, (axes, (name, panel)) in enumerate(
        zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True)
    ):
        _show(axes, torch.cat([images for _, images in panel]), columns)
        axes.set_title(name, fontsize="small")
        if index == 0 or not shared:
            centers = [PITCH // 2 + 1 + PITCH * row for row in range(rows)]
            axes.set_yticks(centers, [label for label, _ in panel], fontsize="x-small")
            axes.tick_params(length=0)
    return figure


def latent_map(title: str, maps: Mapping[Model, Tensor], labels: Tensor, classes: Sequence[str]) -> Figure:
    """Points [N, 2] by model, coloured by class."""
    figure = Figure(figsize=(WIDTH, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    for axes, (model, points) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        for number, name in enumerate(classes):
            chosen = points[labels == number]
            color = f"C{number % 10}"
            axes.scatter(chosen[:, 0], chosen[:, 1], s=1.5, color=color, alpha=0.4, linewidths=0, label=name)
        axes.set_title(NAMES[model], fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.set_aspect("equal")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="x-small", markerscale=5
    )
    return figure


def training_curves(title: str, curves: Mapping[Model, Series]) -> Figure:
    """elbo, rate and distortion over epochs; `curves` by model, columns epoch, train/elbo, validation/elbo, ..."""
    figure = Figure(figsize=(WIDTH, 3.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    for axes, term in zip(figure.subplots(1, 3), ("elbo", "distortion", "rate"), strict=True):
        for model, columns in curves.items():
            line = {"color": COLORS[model], "linewidth": 1.5}
            marker = "o" if len(columns["epoch"]) == 1 else None
            axes.plot(columns["epoch"], columns[f"validation/{term}"], label=NAMES[model], marker=marker, **line)
            axes.plot(columns["epoch"], columns[f"train/{term}"], linestyle=":", marker=marker, **line)
        axes.set_title(f"{term}, nats per image", fontsize="small")
        axes.set_xlabel("epoch", fontsize="small")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize="x-small")
        axes.grid(alpha=0.3)
        late = [value for columns in curves.values() for value in columns[f"validation/{term}"][1:]]
        if late:  # the first epoch is far off: leave it out of the limits, so that the rest can be told apart
            margin = 0.1 * (max(late) - min(late)) + 1
            axes.set_ylim(min(late) - margin, max(late) + margin)
    axes.plot([], [], color="grey", label="validation")
    axes.plot([], [], color="grey", linestyle=":", label="train")
    axes.legend(fontsize="x-small")
    return figure


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
    axes.tick_params(labelsize="x-small")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def calibration(title: str, ladders: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Distances of damaged pictures: above Fréchet with its floor, below how the sets cover each other.

    `ladders` has the distances by kind of damage and strength; under "floor" those of undamaged pictures.
    """
    floor = ladders["floor"]
    kinds = {kind: rungs for kind, rungs in ladders.items() if kind != "floor"}
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    above, below = figure.subplots(2, len(kinds), sharey="row", sharex="col")
    for top, bottom, (kind, rungs) in zip(above, below, kinds.items(), strict=True):
        strengths = [0.0, *map(float, rungs)]
        top.plot(strengths, [floor["frechet"], *(rung["frechet"] for rung in rungs.values())], "ko-", markersize=3)
        top.axhline(floor["frechet"], color="grey", linestyle=":", label=f"floor {floor['frechet']:.2f}")
        top.set_yscale("log")
        for name in ("precision", "recall", "density", "coverage"):
            bottom.plot(strengths, [floor[name], *(rung[name] for rung in rungs.values())], "o-", ms=3, label=name)
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel(UNITS[kind], fontsize="small")
        for axes in (top, bottom):
            axes.tick_params(labelsize="x-small")
            axes.grid(alpha=0.3)
    above[0].set_ylabel("Fréchet distance", fontsize="small")
    above[0].legend(fontsize="x-small")
    below[-1].legend(fontsize="x-small")
    return figure


def quality_by_radius(title: str, curves: Mapping[Model, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """Fréchet distance, classifier's confidence and density over radius; `curves` by model, one a training."""
    figure = Figure(figsize=(WIDTH, 3.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    labels = {"frechet": "Fréchet distance", "confidence": "classifier's confidence", "density": "density"}
    for axes, (key, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        for model, trainings in curves.items():
            for number, rows in enumerate(trainings):
                name = NAMES[model] if number == 0 else None
                axes.plot([row["radius"] for row in rows], [row[key] for row in rows], color=COLORS[model], label=name)
        radii = [row["radius"] for row in next(iter(curves.values()))[0]]
        axes.axvline(radii[-1] / 2, color="grey", linestyle=":", label="typical shell")
        axes.set_title(label, fontsize="small")
        axes.set_xlabel("distance from the centre", fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    return figure


def luminance_walks(title: str, walks: Mapping[Model, Sequence[Mapping[str, Any]]]) -> Figure:
    """Mean luminance along z = A·1 and along the direction that explains it best; `walks` by model, one a training."""
    figure = Figure(figsize=(WIDTH, 3.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, start, label in (
        (left, "ones", 0.0, "A, along z = A·1"),
        (right, "direction", -3.0, "deviations along the direction of luminance"),
    ):
        for model, trainings in walks.items():
            for number, walk in enumerate(trainings):
                values = walk[f"{key}_luminance"]
                end = 1.0 if start == 0 else -start
                places = [start + (end - start) * step / (len(values) - 1) for step in range(len(values))]
                axes.plot(places, values, color=COLORS[model], label=NAMES[model] if number == 0 else None)
        axes.set_xlabel(label, fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.grid(alpha=0.3)
    left.set_ylabel("mean luminance, 0 to 1", fontsize="small")
    left.legend(fontsize="x-small")
    return figure


def _show(axes: Axes, images: Tensor, columns: int) -> None:
    grid = make_grid(torch.as_tensor(images), nrow=columns, padding=BORDER, pad_value=255)  # [3, H, W]
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
