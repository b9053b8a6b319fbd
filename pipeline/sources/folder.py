"""How are a user's own images read? From a folder or an archive with train/<class>/* and test/<class>/*."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from pipeline.errors import InputError, printable
from pipeline.sources import ROWS, Split
from pipeline.sources.archives import members
from pipeline.storage import spool

SIDE = 32
LAYOUT = "train/<class>/<image> and test/<class>/<image>"

UNREADABLE = (
    *(UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning),
    *(OSError, ValueError, SyntaxError),
)
# Pillow has readers that start other programs; these do not.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
Array = np.ndarray[Any, Any]


def read_folder(path: Path) -> tuple[Split, Split, list[str]]:
    """Train, test and class names of all images below `path`, a folder or an archive; images are ordered by name.

    An archive is read member by member in memory, never extracted.
    """
    places: list[tuple[str, str, str]] = []
    pixels = spool(_decoded(path, places))  # in the order of places
    classes = sorted({class_name for _, class_name, _ in places})
    for split in ("train", "test"):
        found = {class_name for where, class_name, _ in places if where == split}
        if not found:
            raise InputError(f"{path}: found no images under {split}/<class>/, expected {LAYOUT}")
        if missing := sorted(set(classes) - found):
            raise InputError(
                f"{path}: found no images under {split}/{printable(missing[0])}/, expected all classes in both splits"
            )
    splits = []
    for split in ("train", "test"):
        rows = sorted((number for number, place in enumerate(places) if place[0] == split), key=places.__getitem__)
        labels = np.array([classes.index(places[row][1]) for row in rows], dtype=np.int64)
        images = spool(pixels[rows[start : start + ROWS]] for start in range(0, len(rows), ROWS))
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels)))
    train, test = splits
    return train, test, classes


def _decoded(path: Path, places: list[tuple[str, str, str]]) -> Iterator[Array]:
    """Each image below `path`, uint8 [1, 3, 32, 32], whose place is added to `places`."""
    known = set()
    for name, content in _files(path):
        place = _place(name)
        if place is not None:
            if place in known:
                twice = printable("/".join(place))
                raise InputError(f"{path}: found a second image as {twice}, expected one; remove {printable(name)}")
            known.add(place)
            places.append(place)
            yield decode_image(content, f"{path}: {printable(name)}")[None]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name (with forward slashes) and content of each file."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    if not path.exists():
        raise InputError(f"data.path: {path} does not exist; expected a folder or an archive with {LAYOUT}")
    yield from members(path)


def _place(name: str) -> tuple[str, str, str] | None:
    """(split, class, file) of an image's path, under any leading folders; None for hidden and other files."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or any(part.startswith((".", "__MACOSX")) for part in parts if part != "."):
        return None
    split, class_name, file = parts[-3:]
    return (split, class_name, file) if split in ("train", "test") else None


def decode_image(content: bytes, where: str) -> Array:
    """uint8 [3, 32, 32] of any image that Pillow reads, resized when it has another size."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=FORMATS) as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # convert("RGB") would cut 16-bit grey at 255, and warn of palettes with alpha
            shown = file.point(lambda level: level / 257).convert("L") if file.mode.startswith("I") else file
            rgb = shown.convert("RGBA" if "transparency" in file.info else "RGB").convert("RGB")
    except UNREADABLE as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else printable(str(error))
        raise InputError(f"{where}: is no image that can be read ({reason}); remove or replace it") from None
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(rgb).transpose(2, 0, 1)
