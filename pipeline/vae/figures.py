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


def _show(axes: Axes, images: Tensor, columns: int) -> None:
    grid = make_grid(torch.as_tensor(images), nrow=columns, padding=BORDER, pad_value=255)  # [3, H, W]
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
