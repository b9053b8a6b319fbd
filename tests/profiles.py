"""ICC profiles small enough to know what they mean: of a gamma and primaries, of a grey, of inks."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WHITE = (0.9642, 1.0, 0.8249)  # D50, in which profiles have their colours
# Columns are the XYZ of red, green and blue under D50, as their profiles state them.
OF_SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
OF_DISPLAY_P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(65536 * value)) for value in values)


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(256 * gamma))


def profile(space: bytes, kind: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 for colours of `space`, of whose tags each is a multiple of four bytes."""
    at, entries = 128 + 4 + 12 * len(tags), b""
    for name, content in tags.items():
        entries += name + struct.pack(">II", at, len(content))
        at += len(content)
    head = struct.pack(">I4xI", at, 0x02400000) + kind + space + connection + bytes(12) + b"acsp" + bytes(28)
    return head + xyz(WHITE)[8:] + bytes(48) + struct.pack(">I", len(tags)) + entries + b"".join(tags.values())


def of_primaries(primaries: np.ndarray, gamma: float = 2.2) -> bytes:
    tags = {b"wtpt": xyz(WHITE)} | dict.fromkeys([b"rTRC", b"gTRC", b"bTRC"], curve(gamma))
    columns = zip([b"rXYZ", b"gXYZ", b"bXYZ"], primaries.T, strict=True)
    return profile(b"RGB ", b"mntr", b"XYZ ", tags | {name: xyz(tuple(column)) for name, column in columns})


def of_grey(gamma: float) -> bytes:
    return profile(b"GRAY", b"mntr", b"XYZ ", {b"wtpt": xyz(WHITE), b"kTRC": curve(gamma)})


def of_inks(lightness: Mapping[str, int]) -> bytes:
    """CMYK whose full inks, alone, are greys of this CIELAB lightness, 0 to 255; all mixtures are black."""
    corners = np.tile(np.array([0, 128, 128], np.uint8), (16, 1))
    for ink, level in lightness.items():
        corners[{"": 0, "black": 1, "yellow": 2, "magenta": 4, "cyan": 8}[ink], 0] = level
    unit = struct.pack(">9i", *np.eye(3, dtype=int).ravel() << 16)
    identity = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + 4 * identity + corners.tobytes() + 3 * identity
    return profile(b"CMYK", b"prtr", b"Lab ", {b"wtpt": xyz(WHITE), b"A2B0": table})


def shown(color: tuple[float, ...], primaries: np.ndarray, gamma: float = 2.2) -> list[float]:
    """The sRGB of 0 to 255 (IEC 61966-2-1) of a color under `of_primaries`, clipped."""
    linear = (np.linalg.inv(OF_SRGB) @ primaries @ (np.array(color) / 255) ** gamma).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [float(255 * level) for level in encoded]
