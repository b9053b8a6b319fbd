"""Are a user's own images read alike from every container, and is every mistake in them told?"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.sources import Split
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


Splits = tuple[Split, Split, list[str]]


def assert_equal(found: Splits, expected: Splits) -> None:
    assert found[2] == expected[2]
    for split, wanted in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(split.images, wanted.images)
        assert torch.equal(split.labels, wanted.labels)


@pytest.fixture
def images(tmp_path: Path) -> Splits:
    return read_folder(write(tmp_path / "plain", FILES))


def only(tmp_path: Path, content: bytes) -> np.ndarray[Any, Any]:
    """uint8 [3, 32, 32] of the one training image."""
    files = {"train/cat/0.png": content, "test/cat/0.png": FILES[NAMES[0]]}
    train, _, _ = read_folder(write(tmp_path / "only", files))
    return train.images[0].numpy()


def test_pixels_and_labels_are_those_of_the_files(images: Splits) -> None:
    train, test, classes = images
    assert classes == ["cat", "dog"]
    for name, split in (("train", train), ("test", test)):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        expected = [noise(seed).transpose(2, 0, 1) for seed, path in enumerate(NAMES) if path.startswith(name)]
        np.testing.assert_array_equal(split.images.numpy(), np.stack(expected))
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_arrays(tmp_path: Path, images: Splits, container: str, order: int) -> None:
    assert_equal(read_folder(write(tmp_path / container, dict(list(FILES.items())[::order]))), images)


@pytest.mark.parametrize("leading", ["./", "cifar10/", "my/own/images/", "train/"])
@pytest.mark.parametrize("container", ["folder", "images.tar.gz", "images.zip"])
def test_leading_folders_do_not_matter(tmp_path: Path, images: Splits, container: str, leading: str) -> None:
    files = {leading + name: content for name, content in FILES.items()}
    assert_equal(read_folder(write(tmp_path / container, files)), images)


@pytest.mark.parametrize("container", CONTAINERS)
def test_hidden_and_other_files_are_passed_over(tmp_path: Path, images: Splits, container: str) -> None:
    others = ["README.md", "train/labels.csv", "train/cat/.DS_Store", "train/.cache/0.png", ".git/train/cat/0.png"]
    others += ["__MACOSX/train/cat/._0.png", "train/cat/._0.png"]
    files = dict.fromkeys(others, b"no image") | FILES
    assert_equal(read_folder(write(tmp_path / container, files)), images)


def test_two_images_at_the_same_place_are_refused(tmp_path: Path) -> None:
    with refused("train/cat/0.png"):
        read_folder(write(tmp_path / "folder", FILES | {"backup/train/cat/0.png": FILES[NAMES[0]]}))


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
    with refused("data.path", path, "is no folder, .tar.* or .zip archive"):
        read_folder(path)
