"""Is an archive that means harm refused in one line, before it has done any?"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from pipeline import storage
from pipeline.sources import archives
from pipeline.sources.folder import read_folder
from tests.fixtures import TINY, merged, write_params
from tests.processes import fork
from tests.refusals import refused


def png(width: int = 32, height: int = 32) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, "PNG")
    return content.getvalue()


GOOD = {f"{split}/cat/0.png": png() for split in ("train", "test")}


def tar(path: Path, files: Mapping[str, bytes], *special: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in special:
            archive.addfile(member)


def zipped(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def a_symlink_in_a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("train/cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")


def a_header_of_a_gigabyte(path: Path) -> None:
    """tarfile would read all of it at once."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(10 * tarfile.BLOCKSIZE))


def a_million_members(path: Path) -> None:
    headers = b"".join(tarfile.TarInfo(f"{number}.txt").tobuf() for number in range(1000))
    with gzip.open(path, "wb", compresslevel=1) as archive:
        for _ in range(1000):
            archive.write(headers)


def a_image_of_400_million_pixels(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    tar(path, GOOD | {"train/cat/large.png": image})


def truncated(path: Path) -> None:
    tar(path, GOOD)
    path.write_bytes(path.read_bytes()[:700])


def doubled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name in [*GOOD, *GOOD]:
            archive.writestr(name, GOOD[name])


LEADS_OUT, SPECIAL = "leads out of the archive", "a link or a device"
HARMFUL: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a way up": (lambda path: tar(path, {"train/../../../evil.png": png()}), ["../evil.png", LEADS_OUT]),
    "a way up in a zip": (lambda path: zipped(path, {"train/cat/../../../evil.png": png()}), ["evil.png", LEADS_OUT]),
    "a windows way up": (lambda path: tar(path, {"train\\..\\..\\evil.png": png()}), ["evil.png", LEADS_OUT]),
    "an absolute name": (lambda path: tar(path, {"/train/cat/evil.png": png()}), ["/train/cat/evil.png", LEADS_OUT]),
    "a drive": (lambda path: tar(path, {"C:/train/cat/evil.png": png()}), ["C:/train", LEADS_OUT]),
    "a symlink": (
        lambda path: tar(path, GOOD, special("train/cat/1.png", tarfile.SYMTYPE, "/etc/passwd")),
        ["train/cat/1.png", SPECIAL],
    ),
    "a symlink in a zip": (a_symlink_in_a_zip, ["train/cat/link.png", SPECIAL]),
    "a hard link": (
        lambda path: tar(path, GOOD, special("train/cat/1.png", tarfile.LNKTYPE, "../../outside")),
        ["train/cat/1.png", SPECIAL],
    ),
    "a device": (lambda path: tar(path, GOOD, special("train/cat/1.png", tarfile.CHRTYPE)), ["1.png", SPECIAL]),
    "a pipe": (lambda path: tar(path, GOOD, special("train/cat/1.png", tarfile.FIFOTYPE)), ["1.png", SPECIAL]),
    "a bomb": (
        lambda path: zipped(path, GOOD | {"train/cat/1.png": bytes(archives.LARGEST_MEMBER + 1)}),
        ["train/cat/1.png", "67,108,865 bytes"],
    ),
    "a bomb of many": (
        lambda path: zipped(path, {f"{number}.txt": bytes(archives.LARGEST_MEMBER) for number in range(5)}),
        ["unpacks to more than 268,435,456 bytes"],
    ),
    "a bomb in a header": (a_header_of_a_gigabyte, ["1,073,741,824 bytes"]),
    "a bomb of pixels": (a_image_of_400_million_pixels, ["train/cat/large.png", "400000000 pixels"]),
    "truncated": (truncated, ["damaged"]),
    "another layout": (lambda path: tar(path, {"cat/0.png": png()}), ["no images under train/<class>/"]),
    "the same name twice": (doubled, ["second image", "train/cat/0.png"]),
    "no image": (lambda path: tar(path, GOOD | {"train/cat/1.png": b"#!/bin/sh"}), ["1.png", "is no image"]),
    "a program": (lambda path: tar(path, GOOD | {"train/cat/1.eps": b"%!PS-Adobe-3.0\n"}), ["1.eps", "unknown format"]),
    "a name of two lines": (lambda path: tar(path, {"train/cat/a\nb\x1b[2J.png": b"no"}), ["a\\nb\\x1b[2J.png"]),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_harm_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, told = HARMFUL[case]
    archive = tmp_path / "some" / "where" / "archive"
    (archive.parent / "data").mkdir(parents=True)  # where outputs go
    monkeypatch.chdir(archive.parent)
    make(archive)
    with refused(archive, *told):
        read_folder(archive)
    assert sorted(tmp_path.rglob("*")) == [*reversed(archive.parents[:2]), archive, archive.parent / "data"]


@pytest.mark.slow
def test_a_million_members_are_refused(tmp_path: Path) -> None:
    a_million_members(tmp_path / "archive")
    with refused(tmp_path / "archive", "more than 500,000 members"):
        read_folder(tmp_path / "archive")


@pytest.mark.parametrize("write", [tar, zipped])
def test_members_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Mapping[str, bytes]], None]
) -> None:
    write(tmp_path / "archive", GOOD)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)
    assert dict(archives.members(tmp_path / "archive", Counter())) == GOOD
    monkeypatch.setattr(archives, "MOST_MEMBERS", 1)
    with refused(tmp_path / "archive", "more than 1 members"):
        read_folder(tmp_path / "archive")


@pytest.mark.parametrize("write", [tar, zipped])
def test_what_all_members_unpack_to_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Mapping[str, bytes]], None]
) -> None:
    write(tmp_path / "archive", {f"{number}.txt": bytes(10_000) for number in range(5)})
    monkeypatch.setattr(archives, "LARGEST_RATIO", 0)
    monkeypatch.setattr(archives, "SMALL", 45_000)
    with refused(tmp_path / "archive: 4.txt", "the archive unpacks to more than 45,000 bytes"):
        read_folder(tmp_path / "archive")


class Payload:
    """What unpickling calls."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_under_a_wrong_md5_is_never_opened(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    mirror, proof = tmp_path_factory.mktemp("mirror"), workspace / "executed"
    content = pickle.dumps(Payload(proof))
    archive = mirror / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("cifar-10-batches-py/batches.meta")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    data = {"source": "cifar10", "name": "cifar10", "url": archive.as_uri()}
    write_params(workspace, merged(TINY, {"data": data}))
    ended = fork("-m", "pipeline", "download")
    (line,) = ended.communicate()[1].splitlines()
    assert ended.returncode == 1
    assert hashlib.md5(archive.read_bytes()).hexdigest() in line
    assert not proof.exists()
    assert not any(path.exists() for path in storage.IMAGES)
    pickle.loads(content)  # noqa: S301  # the payload would have worked
    assert proof.exists()
