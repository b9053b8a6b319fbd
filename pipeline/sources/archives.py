"""How is a stranger's archive read? Member by member in memory, within limits; nothing is extracted."""

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.errors import InputError, printable

MOST_MEMBERS = 500_000
LARGEST_MEMBER = 64 << 20  # bytes
SMALL = 256 << 20  # bytes that any archive may unpack to; a larger total only
UTF8_NAME = 0x800  # a flag of a member of a zip
LARGEST_RATIO = 100  # times the archive's own size: images hardly compress
# What the standard library raises for truncated, damaged and encrypted archives (RuntimeError: a password is needed).
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, OverflowError, RuntimeError, ValueError),
)


def members(path: Path, notes: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """Name (with forward slashes) and content of each file in a .zip or .tar.*; InputError for a damaged one.

    It also names a member that is a link or a device, leads out of the archive or is too large, and refuses archives
    with too many members or too much in them, before they are read. `notes` counts names of unknown encoding.
    """
    try:
        yield from _zip_members(path, notes) if zipfile.is_zipfile(path) else _tar_members(path)
    except DAMAGED as error:
        raise InputError(
            f"data.path: {path} is no folder, .zip or .tar (also .gz, .bz2, .xz), or a damaged or locked one "
            f"({printable(str(error))}); unpack it to a folder with train/<class>/<image> and test/<class>/<image>"
        ) from None


def _zip_members(path: Path, notes: Counter[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        total = 0
        for count, info in enumerate(archive.infolist(), start=1):
            total += info.file_size
            usual = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            _check(path, info.filename, count, usual, info.file_size, total)
            name = _zip_name(info, notes).replace("\\", "/")  # as some programs of Windows write it
            if not name.endswith("/"):
                yield name, archive.read(info)


def _zip_name(info: zipfile.ZipInfo, notes: Counter[str]) -> str:
    """UTF-8, also where a program does not say so; what cannot be that is in code page 437, as the format has it."""
    if info.flag_bits & UTF8_NAME or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeDecodeError:
        notes["with a name in an encoding that is not stated, read as code page 437"] += 1
        return info.filename


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with _unpacked(path) as unpacked, tarfile.open(fileobj=_Bounded(path, unpacked), mode="r:") as tar:
        for count, member in enumerate(tar, start=1):
            _check(path, member.name, count, member.isfile() or member.isdir(), member.size, tar.offset)
            if member.isfile() and (content := tar.extractfile(member)):
                yield member.name if "/" in member.name else member.name.replace("\\", "/"), content.read()


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(magic):
            return cast("IO[bytes]", opener(path))
    return path.open("rb")


def _check(path: Path, name: str, count: int, usual: bool, size: int, total: int) -> None:
    where = f"{path}: {printable(name)}"
    if count > MOST_MEMBERS:
        raise InputError(f"{path}: found more than {MOST_MEMBERS:,} members, expected at most as many")
    if not usual:
        raise InputError(f"{where}: found a link or a device, expected files and folders only; remove it")
    if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise InputError(f"{where}: found a name that leads out of the archive, expected train/... and test/...")
    if size > LARGEST_MEMBER:
        raise InputError(f"{where}: found {size:,} bytes, expected an image of at most {LARGEST_MEMBER:,}")
    if total > (limit := max(SMALL, LARGEST_RATIO * path.stat().st_size)):
        raise InputError(f"{where}: the archive unpacks to more than {limit:,} bytes, expected images")


class _Bounded(io.RawIOBase):
    """An unpacked archive that refuses to be read in one piece too large.

    tarfile itself reads some headers whole, however large they say they are. It seeks no further than the end of a
    member that was checked.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_MEMBER + tarfile.BLOCKSIZE:
            raise InputError(f"{self._path}: found a header of {size:,} bytes, expected images")
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)
