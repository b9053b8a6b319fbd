"""Is every image of one's own the right one, whatever its mode, size, orientation, name, layout and container?"""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.figures import plots
from pipeline.sources.folder import LITTER, read_folder
from pipeline.storage import save_figure
from tests import profiles
from tests.unit.sources.test_folder import CONTAINERS, FILES, NAMES, encoded, orientated, stored, write

pytestmark = pytest.mark.slow

COLORS = st.tuples(*[st.integers(0, 255)] * 3)
EVERY_TIME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=12)
DISPLAY_P3 = profiles.of_primaries(profiles.OF_DISPLAY_P3)
WITHOUT_EFFECT = [None, b"no profile", DISPLAY_P3[:-9], profiles.SRGB, profiles.of_inks({})]
Pixels = np.ndarray[Any, Any]


@st.composite
def images(draw: st.DrawFn) -> tuple[bytes, Pixels, int]:
    """A file, the uint8 [32, 32, 3] that a viewer shows, and by how many levels it may be off."""
    color, grey, alpha = draw(COLORS), draw(st.integers(0, 255)), draw(st.integers(0, 255))
    size = draw(st.sampled_from([(32, 32), (1, 1), (7, 90), (64, 64), (100, 33)]))
    modes = ["RGB", "RGBA", "LA", "L", "1", "P", "CMYK", "I;16", "I;16B", "F", "LAB"]
    kind = draw(st.sampled_from([*modes, "turned", "Display P3", "gamma"]))
    if kind == "turned":
        corner = np.zeros((32, 32, 3), np.uint8)
        corner[:16, :16] = color
        orientation, form = draw(st.integers(1, 8)), draw(st.sampled_from(["PNG", "TIFF", "WEBP"]))
        lossless = {"lossless": True} if form == "WEBP" else {}
        turned = Image.fromarray(stored(corner, orientation))
        return encoded(turned, form, exif=orientated(orientation), **lossless), corner, 0
    shown: tuple[float, ...] = (grey,) * 3
    form, rough = "PNG", 1
    profile = draw(st.sampled_from(WITHOUT_EFFECT[: -1 if kind == "CMYK" else None]))
    if kind == "Display P3":
        image, profile = Image.new("RGB", size, color), DISPLAY_P3
        shown = tuple(profiles.shown(color, profiles.OF_DISPLAY_P3))
    elif kind == "gamma":
        gamma = draw(st.integers(256, 768)) / 256  # as profiles state it
        image, profile = Image.new("L", size, grey), profiles.of_grey(gamma)
        shown = tuple(profiles.shown((grey,) * 3, profiles.OF_SRGB, gamma))
    elif kind == "RGB":
        image, shown, form = Image.new("RGB", size, color), color, draw(st.sampled_from(["PNG", "BMP", "TIFF", "PPM"]))
    elif kind == "RGBA":
        image = Image.new("RGBA", size, (*color, alpha))
        shown = tuple(255 + (channel - 255) * alpha / 255 for channel in color)
    elif kind == "LA":
        image, shown = Image.new("LA", size, (grey, alpha)), (255 + (grey - 255) * alpha / 255,) * 3
    elif kind == "1":
        image, shown = Image.new("1", size, grey % 2), (255 * (grey % 2),) * 3
    elif kind == "L":
        image = Image.new("L", size, grey)
    elif kind.startswith("I;16"):
        levels = np.full(size[::-1], 257 * grey, ">u2" if kind == "I;16B" else "<u2")
        image, form = Image.frombytes(kind, size, levels.tobytes()), "TIFF"
    elif kind == "F":
        image, form = Image.new("F", size, grey / 255), "TIFF"
    elif kind == "LAB":  # of lightness grey is a curve, and only its ends are plain
        lightness, form, rough = 255 * (grey % 2), "TIFF", 6
        image, shown = Image.new("LAB", size, (lightness, 128, 128)), (lightness,) * 3
    elif kind == "P":
        image, shown = Image.new("P", size, 1), color
        image.putpalette([0, 0, 0, *color])
    else:
        image, shown, form, rough = Image.new("RGB", size, color).convert("CMYK"), color, "JPEG", 12
    expected = np.broadcast_to(np.rint(shown), (32, 32, 3)).astype(np.uint8)
    return encoded(image, form, icc_profile=profile), expected, rough


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def usable(name: str) -> bool:
    """Whether it is a file name of its own on every system, and none that systems leave behind."""
    plain = composed(name)
    short = len(plain.encode()) < 100 and len(unicodedata.normalize("NFD", name).encode()) < 100
    own = plain.lower() not in {*LITTER, "train", "test"}
    return short and own and not plain.startswith(".") and not plain.endswith(("\r", " "))


@settings(max_examples=470, **EVERY_TIME)  # type: ignore[arg-type]
@given(
    image=images(),
    classes=st.lists(NAME.filter(usable), min_size=1, max_size=3, unique_by=composed),
    leading=st.sampled_from(["", "own/", "train/", "a/b/"]),
    nested=st.sampled_from(["", "deep/", "test/er/"]),
    container=st.sampled_from(CONTAINERS),
    decomposed=st.tuples(st.booleans(), st.booleans()),
)
def test_it_is_where_it_belongs_and_as_a_viewer_shows_it(
    image: tuple[bytes, Pixels, int], classes: list[str], leading: str, nested: str, container: str,
    decomposed: tuple[bool, bool],
) -> None:  # fmt: skip
    content, expected, rough = image
    files = {}
    for split, apart in zip(("train", "test"), decomposed, strict=True):
        for name in classes:
            written = unicodedata.normalize("NFD", name) if apart else composed(name)
            files[f"{leading}{split}/{written}/{nested}0.png"] = FILES[NAMES[0]]
            if name == classes[0]:
                files[f"{leading}{split}/{written}/{nested}1.png"] = content
    with tempfile.TemporaryDirectory() as folder:
        found = read_folder(write(Path(folder) / container, files))
    assert found.classes == sorted(map(composed, classes))
    assert not found.notes
    first = found.classes.index(composed(classes[0]))
    for part in (found.train, found.test):
        assert len(part) == len(classes) + 1
        mine = part.images[part.labels == first][1].permute(1, 2, 0).numpy()
        assert np.abs(mine.astype(int) - expected.astype(int)).max() <= rough


@settings(max_examples=30, **EVERY_TIME)  # type: ignore[arg-type]
@given(classes=st.lists(NAME, min_size=1, max_size=12, unique=True))
def test_every_class_can_be_drawn(classes: list[str]) -> None:
    figure = plots.latent_map("Map", {"fc": torch.zeros(12, 2)}, torch.arange(12) % len(classes), classes)
    with tempfile.TemporaryDirectory() as folder:
        save_figure(Path(folder, "map.png"), figure, {})
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(classes)
