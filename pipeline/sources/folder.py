"""How are a user's own images read? From a folder or an archive with train/<class>/* and test/<class>/*."""

import functools
import io
import os
import re
import struct
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from pipeline.errors import InputError, printable
from pipeline.sources import Source, Split
from pipeline.sources.archives import members
from pipeline.storage import spool
from pipeline.vae.images import SIDE

SPLITS = ("train", "test")
LAYOUT = "train/<class>/<image> and test/<class>/<image>"
# The first folder that is called train or test is the split, what comes next the class.
PLACE = re.compile(r"(?:.*?/)??(train|test)/([^/]+)/(.+)", re.IGNORECASE | re.ASCII | re.DOTALL)
MOST_LISTED = 10  # files of one kind of mistake

UNREADABLE = (
    *(UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning),
    *(OSError, ValueError, SyntaxError),
)
# Pillow has readers that start other programs; these do not.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
WIDE_FORMATS = ("PNG", "PPM")  # whose grey of more than 8 bits goes up to 65535, in whatever mode Pillow has it
# What systems leave in folders, besides names that begin with a dot: files and folders of Windows, macOS, Linux, NAS.
LITTER = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "lost+found", "@eadir"),
}
STREAMS = (":zone.identifier", ":encryptable")  # what Windows keeps beside a file, once copied elsewhere
TURNS = {  # what undoes each orientation of EXIF; Pillow turns to the left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Array = np.ndarray[Any, Any]


class Place(NamedTuple):
    """Where an image belongs; `file` is its path below the class."""

    split: str
    class_name: str
    file: str


def read_folder(path: Path) -> Source:
    """All images below `path`, a folder or an archive, ordered by name; folders below a class belong to it.

    An archive is read member by member in memory, never extracted. Links to folders are followed.
    """
    if not path.exists():
        raise InputError(f"data.path: {path} does not exist; expected a folder or an archive with {LAYOUT}")
    notes: Counter[str] = Counter()
    names: list[str] = []
    pixels = torch.from_numpy(spool(_decoded(path, names, notes)))  # in the order of names
    places = _places(path, names)
    classes = sorted({place.class_name for place in places})
    for split in SPLITS:
        found = {place.class_name for place in places if place.split == split}
        if not found:
            raise InputError(f"{path}: found no images under {split}/<class>/, expected {LAYOUT}")
        if missing := sorted(set(classes) - found):
            raise InputError(
                f"{path}: found no images under {split}/{printable(missing[0])}/, expected all classes in both splits"
            )
    images = Split(pixels, torch.tensor([classes.index(place.class_name) for place in places]))
    order = sorted(range(len(places)), key=places.__getitem__)
    train, test = (images.take(torch.tensor([i for i in order if places[i].split == split])) for split in SPLITS)
    return Source(train, test, classes, notes)


def _decoded(path: Path, names: list[str], notes: Counter[str]) -> Iterator[Array]:
    """Each image below `path`, uint8 [1, 3, 32, 32], whose name is added to `names`; InputError for what is none."""
    mistakes = []
    for raw, content in _files_below(path, path, [], notes) if path.is_dir() else members(path, notes):
        name = _name(raw, notes)
        parts = PurePosixPath(name).parts
        litter = any(part.startswith(".") or part.lower() in LITTER for part in parts)
        if litter or name.lower().endswith(STREAMS):
            notes["hidden or an operating system's own, passed over"] += 1
        elif not PLACE.fullmatch("/".join(parts)):
            notes["outside train/<class>/ and test/<class>/, passed over"] += 1
        else:
            names.append(name)
            try:
                yield decode_image(content, f"{path}: {printable(name)}")[None]
            except InputError as mistake:
                mistakes.append(str(mistake))
    if mistakes:
        more = len(mistakes) - MOST_LISTED
        rest = [f"{path}: {more} more files are no images either"] if more > 0 else []
        raise InputError("\n".join([*mistakes[:MOST_LISTED], *rest]))


def _name(raw: str, notes: Counter[str]) -> str:
    """A name that can be written and compared: macOS writes é as two characters, other systems as one."""
    try:
        raw.encode()
    except UnicodeEncodeError:
        notes["with a name that is no UTF-8, whose bytes are shown as \\x.."] += 1
        raw = raw.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return unicodedata.normalize("NFC", raw)


def _files_below(root: Path, folder: Path, above: Sequence[Path], notes: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """Path relative to `root` and content of each file below `folder`; `above` are the real folders that it is in."""
    here = folder.resolve()
    if here in above:
        notes["links to a folder that they are in, passed over"] += 1
        return
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from _files_below(root, path, [*above, here], notes)
            elif path.is_file():
                yield path.relative_to(root).as_posix(), path.read_bytes()
            else:
                notes["links that lead nowhere or no files, passed over"] += 1
    except OSError as error:
        raise InputError(f"data.path: {printable(str(error.filename))} cannot be read ({error.strerror})") from None


def _places(path: Path, names: Sequence[str]) -> list[Place]:
    """The place of each image, under any leading folders; those that all have in common may be called train or test."""
    paths = [PurePosixPath(name).parts for name in names]
    common = PurePosixPath(os.path.commonpath([PurePosixPath(name).parent for name in names]) if names else "").parts
    places: list[Place] = []
    for leading in range(len(common), -1, -1):
        found = [PLACE.fullmatch("/".join(parts[leading:])) for parts in paths]
        places = [Place(match[1].lower(), match[2], match[3]) for match in found if match]
        if len(places) == len(paths) and {place.split for place in places} == set(SPLITS):
            break
    seen = set()
    for name, place in zip(names, places, strict=True):
        if place in seen:
            where = printable("/".join(place))
            raise InputError(f"{path}: found a second image as {where}, expected one; remove {printable(name)}")
        seen.add(place)
    return places


def decode_image(content: bytes, where: str) -> Array:
    """uint8 [3, 32, 32] of any image that Pillow reads, as a viewer shows it on white; other sizes are resized."""
    try:
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as file:
                wide = file.format in WIDE_FORMATS
                rgb = _on_white(_eight_bits(_upright(file), wide), file.info.get("icc_profile"))
    except UNREADABLE as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else printable(str(error))
        raise InputError(f"{where}: is no image that can be read ({reason}); remove or replace it") from None
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(rgb).transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """As its EXIF data say that it was seen; damaged ones say nothing. Pillow's own way fails to rewrite some."""
    image.load()  # a TIFF is upright from then on
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*UNREADABLE, struct.error):
        return image
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, wide: bool) -> Image.Image:
    """Grey of 16 bits or of floats from 0 to 1 in 8 bits; ValueError where its range is not known."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    low, high = levels.min(), levels.max()
    most = 65535 if image.mode.startswith("I;16") or (image.mode == "I" and wide) else 1
    if (most == 1 and image.mode == "I") or not 0 <= low <= high <= most:
        raise ValueError(f"found grey from {low:g} to {high:g}, expected 8 or 16 bits, or floats from 0 to 1")
    grey = Image.fromarray(np.rint(levels * (255 / most)).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(levels != image.info["transparency"]))
    return grey


def _on_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    """sRGB; what is transparent lets white through."""
    if image.mode == "LAB":
        spaces = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(image, *spaces, outputMode="RGB")
        assert shown is not None
        return shown
    colors = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L", "La": "L"}.get(image.mode, "RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    transparent = image.has_transparency_data
    if transparent:
        image = image.convert("RGBA")
    transform = _to_srgb(profile, colors) if profile else None
    rgb = transform.apply(image.convert(colors)) if transform else image.convert("RGB")
    if not transparent:
        return rgb
    rgb.putalpha(image.getchannel("A"))
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From colours of `mode` under an embedded profile; None where viewers pass over it: broken, of other colours.

    None also for sRGB, whose many profiles differ by a level at most: the image keeps its bytes.
    """
    every_grey = ImageCms.Flags.GRIDPOINTS(255 if mode == "L" else 0)  # by default straight lines between 33
    try:
        transform = ImageCms.buildTransform(
            io.BytesIO(profile), ImageCms.createProfile("sRGB"), mode, "RGB", flags=every_grey
        )
    except (ImageCms.PyCMSError, TypeError):  # a TIFF may have text or numbers where bytes should be
        return None
    steps = np.mgrid[0:256:17, 0:256:17, 0:256:17].T.astype(np.uint8)  # [16, 16, 16, 3]
    colors = Image.fromarray(steps.reshape(256, 16, 3)).convert(mode)
    moved, same = np.asarray(transform.apply(colors)), np.asarray(colors.convert("RGB"))
    return None if np.allclose(moved, same, rtol=0, atol=1) else transform
