"""Is an embedded colour profile applied as a viewer applies it, and passed over where a viewer does so?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.sources.folder import _to_srgb, read_folder
from tests import profiles
from tests.unit.sources.test_folder import COLOR, NAMES, encoded, noise, only, palette, write

DISPLAY_P3 = profiles.of_primaries(profiles.OF_DISPLAY_P3)
SWAPPED = profiles.of_primaries(profiles.OF_SRGB[:, [1, 0, 2]])  # red for green
GREY = profiles.of_grey(1)
INKS = profiles.of_inks({"": 255, "black": 100, "yellow": 53})
IN_P3 = profiles.shown(COLOR, profiles.OF_DISPLAY_P3)
IN_GREY = profiles.shown((100,) * 3, profiles.OF_SRGB, gamma=1)


def on_white(color: list[float], alpha: int) -> list[float]:
    return [255 + (level - 255) * alpha / 255 for level in color]


@pytest.mark.parametrize(
    ("image", "profile", "expected"),
    [
        pytest.param(Image.new("RGB", (40, 32), COLOR), DISPLAY_P3, IN_P3, id="Display P3"),
        pytest.param(Image.new("RGB", (32, 32), (200, 0, 200)), SWAPPED, [0, 200, 200], id="red for green"),
        pytest.param(palette(), DISPLAY_P3, IN_P3, id="palette"),
        pytest.param(Image.new("L", (32, 32), 100), GREY, IN_GREY, id="grey"),
        pytest.param(Image.fromarray(np.full((32, 32), 25700, np.uint16)), GREY, IN_GREY, id="grey of 16 bits"),
        pytest.param(Image.new("RGBA", (32, 32), (*COLOR, 51)), DISPLAY_P3, on_white(IN_P3, 51), id="alpha"),
        pytest.param(Image.new("LA", (32, 32), (100, 51)), GREY, on_white(IN_GREY, 51), id="grey with alpha"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_are_converted_to_srgb(
    tmp_path: Path, kind: str, image: Image.Image, profile: bytes, expected: list[float]
) -> None:
    pixels = only(tmp_path, encoded(image, kind, icc_profile=profile))
    assert pixels[:, 16, 16].tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(("inks", "grey"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 93), ((0, 0, 255, 0), 50)])
def test_inks_are_those_of_their_profile(tmp_path: Path, kind: str, inks: tuple[int, ...], grey: int) -> None:
    image = Image.new("CMYK", (32, 32), inks)
    assert only(tmp_path, encoded(image, kind, icc_profile=INKS))[:, 16, 16].tolist() == pytest.approx(
        [grey] * 3, abs=2
    )


@pytest.mark.parametrize(
    ("profile", "modes"),
    [
        pytest.param(b"no profile", [], id="none"),
        pytest.param(DISPLAY_P3[:-9], [], id="truncated"),
        pytest.param(profiles.SRGB, [], id="sRGB"),
        pytest.param(DISPLAY_P3, ["RGB", "RGBA", "P"], id="Display P3"),
        pytest.param(GREY, ["L", "LA"], id="grey"),
        pytest.param(INKS, ["CMYK"], id="inks"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "LAB"])
def test_it_changes_colours_of_its_own_space_alone(tmp_path: Path, mode: str, profile: bytes, modes: list[str]) -> None:
    image = Image.fromarray(noise(0)).convert("L" if mode == "LA" else "RGB")
    image = Image.merge("LAB", image.split()) if mode == "LAB" else image.convert(mode)
    plain, tagged = (only(tmp_path, encoded(image, "TIFF", icc_profile=icc)) for icc in (None, profile))
    assert np.array_equal(plain, tagged) == (mode not in modes)


def test_a_profile_of_many_images_is_read_once(tmp_path: Path) -> None:
    _to_srgb.cache_clear()
    content = encoded(Image.new("RGB", (8, 8)), icc_profile=DISPLAY_P3)
    read_folder(write(tmp_path / "own", dict.fromkeys(NAMES, content)))
    assert _to_srgb.cache_info().misses == 1
