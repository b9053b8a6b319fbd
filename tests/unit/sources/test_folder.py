"""Are a user's own images read alike from every container, and is every mistake in them told?"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import InputError
from pipeline.sources import Source
from pipeline.sources.folder import read_folder
from tests.refusals import refused

CONTAINERS = ("folder", "images.tar", "images.tar.gz", "images.tar.xz", "images.zip")
COLOR = (200, 100, 50)


def noise(seed: int) -> np.ndarray[Any, Any]:
    """uint8 [32, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


NAMES = [
    f"{split}/{kind}/{number}.png" for split in ("test", "train") for kind in ("cat", "dog") for number in range(3)
]
FILES = {name: encoded(Image.fromarray(noise(seed))) for seed, name in enumerate(NAMES)}


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder, .tar.* or .zip, as the name of `path` says, with the files in the given order."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif ".tar" in path.suffixes:
        modes: dict[str, Literal["w:", "w:gz", "w:xz"]] = {".tar": "w:", ".gz": "w:gz", ".xz": "w:xz"}
        with tarfile.open(path, modes[path.suffix]) as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def assert_equal(found: Source, expected: Source) -> None:
    assert found.classes == expected.classes
    for split, wanted in ((found.train, expected.train), (found.test, expected.test)):
        assert torch.equal(split.images, wanted.images)
        assert torch.equal(split.labels, wanted.labels)


@pytest.fixture
def images(tmp_path: Path) -> Source:
    return read_folder(write(tmp_path / "plain", FILES))


def only(tmp_path: Path, content: bytes) -> np.ndarray[Any, Any]:
    """uint8 [3, 32, 32] of the one training image."""
    files = {"train/cat/0.png": content, "test/cat/0.png": FILES[NAMES[0]]}
    pixels: np.ndarray[Any, Any] = read_folder(write(tmp_path / "only", files)).train.images[0].numpy()
    return pixels


def test_pixels_and_labels_are_those_of_the_files(images: Source) -> None:
    train, test, classes, _ = images
    assert classes == ["cat", "dog"]
    for name, split in (("train", train), ("test", test)):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        expected = [noise(seed).transpose(2, 0, 1) for seed, path in enumerate(NAMES) if path.startswith(name)]
        np.testing.assert_array_equal(split.images.numpy(), np.stack(expected))
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_arrays(tmp_path: Path, images: Source, container: str, order: int) -> None:
    assert_equal(read_folder(write(tmp_path / container, dict(list(FILES.items())[::order]))), images)


@pytest.mark.parametrize("leading", ["./", "cifar10/", "my/own/images/", "train/"])
@pytest.mark.parametrize("container", ["folder", "images.tar.gz", "images.zip"])
def test_leading_folders_do_not_matter(tmp_path: Path, images: Source, container: str, leading: str) -> None:
    files = {leading + name: content for name, content in FILES.items()}
    assert_equal(read_folder(write(tmp_path / container, files)), images)


@pytest.mark.parametrize("container", CONTAINERS)
def test_hidden_and_other_files_are_passed_over(tmp_path: Path, images: Source, container: str) -> None:
    others = ["README.md", "train/labels.csv", "train/cat/.DS_Store", "train/.cache/0.png", ".git/train/cat/0.png"]
    others += ["__MACOSX/train/cat/._0.png", "train/cat/._0.png"]
    files = dict.fromkeys(others, b"no image") | FILES
    assert_equal(read_folder(write(tmp_path / container, files)), images)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("train/cat/0.png", "backup/train/cat/0.png"),
        ("train/cat/0.png", "Train/cat/0.png"),
        ("train/cat/k\xe4fer.png", "train/cat/ka\u0308fer.png"),
    ],
)
@pytest.mark.parametrize("container", ["folder", "images.zip"])
def test_two_images_at_the_same_place_are_refused(tmp_path: Path, container: str, name: str, other: str) -> None:
    with refused(name, "second image"):
        read_folder(write(tmp_path / container, FILES | dict.fromkeys([name, other], FILES[NAMES[0]])))


@pytest.mark.parametrize("size", [(64, 64), (48, 20), (8, 8), (1, 300)])
def test_other_sizes_are_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = only(tmp_path, encoded(Image.new("RGB", size, COLOR)))
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.array(COLOR).reshape(3, 1, 1), (3, 32, 32)))


def test_resizing_keeps_left_and_right_top_and_bottom(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40))
    image.paste((255, 0, 0), (40, 0, 80, 20))  # the upper right quarter
    pixels = only(tmp_path, encoded(image))
    assert pixels[:, 4, 28].tolist() == [255, 0, 0]
    assert pixels[:, [4, 28, 28], [4, 4, 28]].max() == 0


def palette() -> Image.Image:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, *COLOR])
    return image


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(encoded(Image.new("L", (32, 32), 100)), (100, 100, 100), id="grey"),
        pytest.param(encoded(Image.new("LA", (32, 32), (100, 255))), (100, 100, 100), id="grey with alpha"),
        pytest.param(encoded(Image.new("1", (32, 32), 1)), (255, 255, 255), id="black and white"),
        pytest.param(encoded(Image.new("RGBA", (32, 32), (*COLOR, 255))), COLOR, id="alpha"),
        pytest.param(encoded(palette()), COLOR, id="palette"),
        pytest.param(encoded(palette(), transparency=0), COLOR, id="palette with a transparent colour"),
        pytest.param(encoded(palette(), transparency=b"\x80\xff"), COLOR, id="palette with alpha"),
        pytest.param(encoded(palette(), "GIF"), COLOR, id="gif"),
        pytest.param(
            encoded(Image.fromarray(np.full((32, 32), 100 * 257, np.uint16))), (100, 100, 100), id="grey of 16 bits"
        ),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, content: bytes, expected: tuple[int, ...]) -> None:
    pixels = only(tmp_path, content)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 32, 32))
    assert pixels[:, 16, 16].tolist() == list(expected)


def orientated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def stored(upright: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """The rows of an image [H, W, 3] as a camera stores them that was turned."""
    ways: dict[int, Callable[[Any], Any]] = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    ways |= {5: lambda a: a.transpose(1, 0, 2), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2)}
    ways |= {6: np.rot90, 8: lambda a: np.rot90(a, -1)}
    return np.ascontiguousarray(ways.get(orientation, lambda a: a)(upright))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_was_turned_does_not_turn_its_images(tmp_path: Path, kind: str, orientation: int) -> None:
    """An image with red at its upper left, stored as each orientation stores it."""
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :16] = (255, 0, 0)
    turned = Image.fromarray(stored(upright, orientation))
    pixels = only(tmp_path, encoded(turned, kind, exif=orientated(orientation), quality=95))
    red = [pixels[0, y, x] > 150 and pixels[1, y, x] < 100 for y in (8, 24) for x in (8, 24)]
    assert red == [True, False, False, False]


WIDTH_IS_TEXT, TURNED = struct.pack("<HHI4s", 0x100, 2, 4, b"wide"), struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
EXIF = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + WIDTH_IS_TEXT + TURNED + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("exif", "red"), [(b"no such data", (4, 4)), (EXIF, (4, 28))], ids=["damaged", "in part"])
def test_of_damaged_camera_data_what_can_be_read_counts(
    tmp_path: Path, kind: str, exif: bytes, red: tuple[int, int]
) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    pixels = only(tmp_path, encoded(image, kind, exif=exif))
    assert pixels[0, *red] > 200
    assert pixels[0].astype(int).sum() < 255 * 300  # a quarter


@pytest.mark.parametrize("kind", ["GIF", "MPO", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_shown(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (32, 32), COLOR), Image.new("RGB", (32, 32))
    pixels = only(tmp_path, encoded(first, kind, save_all=True, append_images=[second]))
    assert pixels[:, 16, 16].tolist() == pytest.approx(COLOR, abs=3)


def png_of_16_bits(color: tuple[int, ...], clear: tuple[int, ...] = ()) -> bytes:
    """Grey or RGB of one colour, which Pillow cannot write; what is of the colour `clear` is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def levels(values: tuple[int, ...]) -> bytes:
        return b"".join(struct.pack(">H", 257 * level) for level in values)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2 if len(color) == 3 else 0, 0, 0, 0))
    transparent = chunk(b"tRNS", levels(clear)) if clear else b""
    rows = chunk(b"IDAT", zlib.compress(32 * (b"\0" + 32 * levels(color))))
    return b"\x89PNG\r\n\x1a\n" + header + transparent + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize("color", [(100,), COLOR])
def test_colours_of_16_bits_may_be_transparent(tmp_path: Path, color: tuple[int, ...]) -> None:
    shown = list(color * 3)[:3]
    for clear, expected in (((), shown), ((7,) * len(color), shown), (color, [255] * 3)):
        assert only(tmp_path, png_of_16_bits(color, clear))[:, 16, 16].tolist() == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("alpha", "expected"), [(0, (255, 255, 255)), (255, COLOR), (51, (244, 224, 214))])
def test_what_is_transparent_lets_white_through(
    tmp_path: Path, kind: str, alpha: int, expected: tuple[int, ...]
) -> None:
    image = Image.new("RGBA", (32, 32), (*COLOR, alpha))
    pixels = only(tmp_path, encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert pixels[:, 16, 16].tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("mode", "color"), [("LA", (50, 128)), ("RGBA", (50, 50, 50, 128))])
def test_levels_may_be_multiplied_by_their_alpha(tmp_path: Path, mode: str, color: tuple[int, ...]) -> None:
    content, tag = encoded(Image.new(mode, (32, 32), color), "TIFF"), struct.Struct("<HHIH")
    multiplied = content.replace(tag.pack(338, 3, 1, 2), tag.pack(338, 3, 1, 1))  # ExtraSamples
    assert content != multiplied
    assert only(tmp_path, multiplied)[:, 16, 16].tolist() == pytest.approx([50 + 127] * 3, abs=1)


GREYS = {
    "16 bits, little end first": (np.full((32, 32), 100 * 257, "<u2"), "I;16"),
    "16 bits, big end first": (np.full((32, 32), 100 * 257, ">u2"), "I;16B"),
    "floats from 0 to 1": (np.full((32, 32), 100 / 255, np.float32), "F"),
}


@pytest.mark.parametrize("name", GREYS)
def test_a_known_range_of_grey_is_scaled(tmp_path: Path, name: str) -> None:
    levels, mode = GREYS[name]
    image = Image.frombytes(mode, (32, 32), levels.tobytes())
    assert only(tmp_path, encoded(image, "TIFF"))[:, 16, 16].tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    "content",
    [
        b"P5 32 32 255\n" + bytes([100]) * 1024,
        b"P5 32 32 65535\n" + struct.pack(">H", 25700) * 1024,
        b"Pf 32 32 -1\n" + struct.pack("<f", 100 / 255) * 1024,
    ],
    ids=["8 bits", "16 bits", "floats"],
)
def test_so_is_that_of_portable_maps(tmp_path: Path, content: bytes) -> None:
    assert only(tmp_path, content)[:, 16, 16].tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("levels", "mode"),
    [(np.full((32, 32), 100.0, np.float32), "F"), (np.full((32, 32), np.nan, np.float32), "F")]
    + [(np.full((32, 32), level, np.int32), "I") for level in (100, 70_000, -1)],
)
def test_an_unknown_range_of_grey_is_refused(tmp_path: Path, levels: np.ndarray[Any, Any], mode: str) -> None:
    image = Image.frombytes(mode, (32, 32), levels.tobytes())
    with refused("train/cat/0.png", "found grey from", "expected 8 or 16 bits, or floats from 0 to 1"):
        only(tmp_path, encoded(image, "TIFF"))


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("LAB", "TIFF")])
def test_other_spaces_of_colour_are_shown_as_they_are(tmp_path: Path, mode: str, kind: str) -> None:
    if mode == "LAB":
        image = Image.new("LAB", (32, 32), (255, 128, 128))
        expected = (255, 255, 255)
    else:
        image, expected = Image.new("RGB", (32, 32), COLOR).convert(mode), COLOR
    assert only(tmp_path, encoded(image, kind))[:, 16, 16].tolist() == pytest.approx(expected, abs=8)


def test_a_large_image_is_a_line_of_ours_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # Pillow warns past it, and raises past twice as many
    with warnings.catch_warnings(action="always", record=True) as raw:
        with refused("train/cat/0.png", "1600 pixels", "limit"):
            only(tmp_path, encoded(Image.new("RGB", (40, 40))))
        assert not raw


def test_links_to_folders_and_files_are_followed(tmp_path: Path, images: Source) -> None:
    elsewhere = write(tmp_path / "elsewhere", FILES)
    (tmp_path / "linked/train").mkdir(parents=True)
    (tmp_path / "linked/test").symlink_to(elsewhere / "test")
    (tmp_path / "linked/train/cat").symlink_to(elsewhere / "train/cat")
    (tmp_path / "linked/train/dog").mkdir()
    for file in (elsewhere / "train/dog").iterdir():
        (tmp_path / "linked/train/dog" / file.name).symlink_to(file)
    (tmp_path / "linked/train/dog/around").symlink_to(tmp_path / "linked/train")
    (tmp_path / "linked/train/dog/nowhere.png").symlink_to("nothing")
    found = read_folder(tmp_path / "linked")
    assert_equal(found, images)
    assert found.notes == {
        "links to a folder that they are in, passed over": 1,
        "links that lead nowhere or no files, passed over": 1,
    }


@pytest.mark.parametrize("container", ["folder", "images.tar.gz", "images.zip"])
def test_folders_below_a_class_belong_to_it(tmp_path: Path, container: str) -> None:
    nested = FILES | {"train/cat/siamese/0.png": FILES[NAMES[0]], "train/cat/test/old/0.png": FILES[NAMES[1]]}
    train, test, classes, _ = read_folder(write(tmp_path / container, nested))
    assert classes == ["cat", "dog"]
    assert (train.labels.tolist(), len(test)) == ([0] * 5 + [1] * 3, 6)


def test_split_folders_may_begin_with_a_capital(tmp_path: Path, images: Source) -> None:
    assert_equal(read_folder(write(tmp_path / "own", {name.capitalize(): FILES[name] for name in NAMES})), images)


UMLAUT = {name.replace("cat", "käfer"): content for name, content in FILES.items()}


@pytest.mark.parametrize("container", ["folder", "images.tar", "images.zip"])
def test_an_umlaut_is_one_whichever_system_wrote_it(tmp_path: Path, container: str) -> None:
    files = {unicodedata.normalize("NFD" if "train" in name else "NFC", name): UMLAUT[name] for name in UMLAUT}
    assert read_folder(write(tmp_path / container, files)).classes == ["dog", "käfer"]


def renamed(path: Path, encoding: str) -> Path:
    """The zip with its names in `encoding`, and no word of it."""
    content = path.read_bytes()
    for name in UMLAUT:
        content = content.replace(name.encode(), name.encode(encoding).ljust(len(name.encode()), b"_"))
    flagged = bytearray(content)
    for signature, flags in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            flagged[at + flags] &= 0xF7
    path.write_bytes(flagged)
    return path


def test_names_in_a_zip_of_unstated_encoding(tmp_path: Path) -> None:
    found = read_folder(renamed(write(tmp_path / "utf8.zip", UMLAUT), "utf-8"))
    assert (found.classes, found.notes) == (["dog", "käfer"], {})
    found = read_folder(renamed(write(tmp_path / "dos.zip", UMLAUT), "cp437"))
    assert found.classes == ["dog", "käfer"]
    assert found.notes == {"with a name in an encoding that is not stated, read as code page 437": 6}


@pytest.mark.parametrize("container", ["images.tar", "images.zip"])
def test_backslashes_of_windows_are_folders(tmp_path: Path, images: Source, container: str) -> None:
    path = write(tmp_path / container, {name.replace("/", "\\"): content for name, content in FILES.items()})
    assert_equal(read_folder(path), images)


def test_a_name_that_is_no_utf8_can_be_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "own", FILES)
    for split in ("train", "test"):
        os.rename(folder / split / "dog", os.fsencode(folder / split) + b"/k\xe4fer")
    found = read_folder(folder)
    assert found.classes == ["cat", "k\\xe4fer"]
    assert found.notes == {"with a name that is no UTF-8, whose bytes are shown as \\x..": 6}


def test_what_systems_leave_behind_is_counted_and_all_that_is_no_image_is_listed(tmp_path: Path) -> None:
    litter = ["train/cat/Thumbs.db", "train/desktop.ini", "test/dog/.DS_Store", "__MACOSX/train/cat/0.png"]
    litter += ["train/cat/0.png:Zone.Identifier", "train/cat/Thumbs.db:encryptable"]
    others = ["README.md", "val/cat/0.png"]
    folder = write(tmp_path / "own", FILES | dict.fromkeys([*litter, *others], b"no image"))
    assert read_folder(folder).notes == {
        "hidden or an operating system's own, passed over": 6,
        "outside train/<class>/ and test/<class>/, passed over": 2,
    }
    write(folder, {f"train/cat/{number}.txt": b"a cat" for number in range(12)})
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert all("is no image that can be read" in line for line in lines[:10])
    assert lines[10] == f"{folder}: 2 more files are no images either"


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with refused("data.path", tmp_path / "nowhere", "does not exist", "train/<class>"):
        read_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("container", ["folder", "images.tar.gz", "images.zip"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_told(tmp_path: Path, container: str, split: str) -> None:
    path = write(tmp_path / container, {name: FILES[name] for name in NAMES if not name.startswith(split)})
    with refused(path, f"no images under {split}/<class>/"):
        read_folder(path)


def test_images_without_classes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "folder", {"train/0.png": FILES[NAMES[0]], "test/0.png": FILES[NAMES[0]]})
    with refused(path, "no images under train/<class>/"):
        read_folder(path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with refused(tmp_path, "no images under train/<class>/"):
        read_folder(tmp_path)


@pytest.mark.parametrize("place", ["train/dog", "test/cat"])
def test_a_class_that_one_split_lacks_is_told(tmp_path: Path, place: str) -> None:
    path = write(tmp_path / "folder", {name: FILES[name] for name in NAMES if not name.startswith(place)})
    with refused(path, f"no images under {place}/", "all classes in both splits"):
        read_folder(path)


@pytest.mark.parametrize("content", [b"", b"no image", FILES[NAMES[0]][:1000]], ids=["empty", "text", "truncated"])
@pytest.mark.parametrize("container", ["folder", "images.tar.xz", "images.zip"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, container: str, content: bytes) -> None:
    path = write(tmp_path / container, FILES | {"train/dog/bad.png": content})
    with refused(path, "train/dog/bad.png", "is no image"):
        read_folder(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("container", CONTAINERS[1:])
def test_a_truncated_archive_is_told(tmp_path: Path, container: str, share: float) -> None:
    path = write(tmp_path / container, FILES)
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(share * len(content))])
    with refused(path):
        read_folder(path)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("container", CONTAINERS[1:])
def test_a_damaged_archive_is_told(tmp_path: Path, container: str, share: float) -> None:
    path = write(tmp_path / container, FILES)
    content = bytearray(path.read_bytes())
    middle = int(share * len(content))
    content[middle : middle + 20] = b"\xa5" * 20
    path.write_bytes(content)
    with refused(path):
        read_folder(path)


def test_an_archive_with_a_password_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "images.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # flags in the directory's first entry
    content[6] |= 1  # and in the file's own header
    path.write_bytes(content)
    with refused(path, "password"):
        read_folder(path)


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    path.write_text("no archive")
    with refused("data.path", path, "is no folder, .zip or .tar"):
        read_folder(path)


@pytest.mark.parametrize(
    "start",
    [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\0", b"\x28\xb5\x2f\xfd", b"\x1f\x9d"],
    ids=["7z", "rar", "tar.zst", "tar.Z"],
)
def test_an_archive_of_another_kind_is_told_with_what_to_do(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(start + bytes(1000))
    with refused(path, "(also .gz, .bz2, .xz)", "unpack it to a folder with train/<class>/<image>"):
        read_folder(path)
