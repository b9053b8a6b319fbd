"""Are figures drawn from arrays alone, and equal for equal arrays?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure

from pipeline import figures
from pipeline.figures import plots
from pipeline.sources.shapes import draw_shapes
from pipeline.storage import save_figure
from pipeline.vae.images import generator

CURVES = {
    model: {
        "epoch": [1.0, 2.0, 3.0],
        **{f"{split}/{term}": [3.0, 2.0, 1.0] for split in ("train", "validation") for term in ("elbo", "distortion")},
        **{f"{split}/rate": [0.0, 1.0, 1.5] for split in ("train", "validation")},
    }
    for model in ("fc", "conv")
}


def drawn() -> dict[str, Figure]:
    images = draw_shapes(6, generator(0, "figures")).images
    rows = [("one", images[:3]), ("two", images[3:])]
    other = [("one", images[:3]), ("three", images[3:])]
    return {
        "samples": figures.samples("Prior samples", images),
        "rows": figures.rows_of_images("Rows", {"": rows}),
        "panels": figures.rows_of_images("Panels", {"fc": rows, "conv": other}),
        "curves": plots.training_curves("Training", CURVES),  # type: ignore[arg-type]
        "one epoch": plots.training_curves("Training", {"fc": {key: rows[:1] for key, rows in CURVES["fc"].items()}}),
        "rates": plots.rate_per_dimension("Rates", {"fc": [0.1, 3.0], "conv": [1.0, 2.0]}),
    }


@pytest.mark.parametrize("name", ["samples", "rows", "panels", "curves", "one epoch", "rates"])
def test_equal_arrays_give_equal_bytes(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "first.png", tmp_path / "second.png"):
        save_figure(path, drawn()[name], {})
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_every_image_is_shown_unchanged() -> None:
    images = draw_shapes(4, generator(0, "figures")).images
    (axes,) = figures.samples("Prior samples", images).axes
    grid = torch.as_tensor(axes.images[0].get_array())
    corner = figures.BORDER
    assert torch.equal(grid[corner : corner + 32, corner : corner + 32].permute(2, 0, 1), images[0])


@pytest.mark.parametrize("classes", [["$5_$10", "_cat", "{%"], [f"c{number}" for number in range(20)]])
def test_every_class_is_in_the_legend_as_it_is_written(tmp_path: Path, classes: list[str]) -> None:
    figure = plots.latent_map("Map", {"fc": torch.randn(40, 2)}, torch.arange(40) % len(classes), classes)
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == classes
    assert len({str(points.get_facecolor()) for points in figure.axes[0].collections}) == len(classes)
    save_figure(tmp_path / "map.png", figure, {})


def test_many_classes_have_no_legend_that_hides_them() -> None:
    classes = [f"c{number}" for number in range(100)]
    figure = plots.latent_map("Map", {"fc": torch.randn(400, 2)}, torch.arange(400) % 100, classes)
    assert figure.legends == []
    assert figure.get_supxlabel() == "100 classes, from blue to red in the order of their names"


def test_what_no_font_has_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    assert plots.drawable(["\u732b", "k\xe4fer"]) == (["\\u732b", "k\xe4fer"], ["DejaVu Sans"])


def test_rates_are_ranked_and_their_sum_is_told() -> None:
    (axes,) = drawn()["rates"].axes
    lines = axes.get_lines()
    assert list(lines[0].get_ydata()) == [3.0, 0.1]  # type: ignore[arg-type]
    assert lines[0].get_label() == "fully connected: 3.1 nats in all"
