"""Where do the pictures come from? CIFAR-10, a user's own pictures, or shapes drawn on the spot: one file for all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from tqdm import tqdm

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.params import Data, load_params, used_parameters
from pipeline.pictures import read_pictures
from pipeline.records import Record
from pipeline.vae.images import SHAPE_CLASSES, SHAPES_TEST, SHAPES_TRAIN, Split, draw_shapes, generator, make_splits


def main() -> None:
    params = load_params()
    record = Record("download", used_parameters(params, "download"), params.data.name)
    read = {"cifar10": read_cifar10, "folder": read_folder, "shapes": read_shapes}[params.data.source]
    train, test, classes = read(params.data, params.seed)
    if len(train) <= params.data.validation:
        raise InputError(
            f"data.validation: found {params.data.validation}, expected fewer than the {len(train)} training pictures"
        )
    if len(test) < 2:
        raise InputError(f"{params.data.name}: found {len(test)} test picture, expected at least 2")
    splits = make_splits(train, test, params.data.validation, params.seed, join=spooled)
    arrays = {f"{name}_images": split.images.numpy() for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.labels.numpy() for name, split in splits.items()}
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(arrays[name].data)
    digest = content.hexdigest()
    header = {"name": params.data.name, "source": params.data.source, "classes": classes, "content.sha256": digest}
    storage.save_tensors(storage.IMAGES, arrays, header)
    record.data_md5 = lineage.md5(storage.IMAGES)
    record.metrics = {f"pictures/{name}": len(split) for name, split in splits.items()}
    record.save(inputs=[], outputs=[storage.IMAGES])
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    print(f"{params.data.name}: {counts} pictures, content sha256 {digest}")


def spooled(parts: Iterable[Tensor]) -> Tensor:
    """Images of any number, kept on the disk instead of in memory."""
    return torch.from_numpy(storage.spool(part.numpy() for part in parts))


def read_folder(data: Data, seed: int) -> tuple[Split, Split, list[str]]:
    """The user's own pictures, from a folder or an archive."""
    pictures = read_pictures(lineage.main_checkout() / Path(data.path or ""))
    train, test = (
        Split(torch.from_numpy(images), torch.from_numpy(labels))
        for images, labels in (pictures.splits["train"], pictures.splits["test"])
    )
    return train, test, pictures.classes


def read_shapes(data: Data, seed: int) -> tuple[Split, Split, list[str]]:
    """The built-in shapes, drawn from the seed."""
    train, test = (
        draw_shapes(count, generator(seed, f"shapes {split}"))
        for split, count in (("train", SHAPES_TRAIN), ("test", SHAPES_TEST))
    )
    return train, test, list(SHAPE_CLASSES)


def read_cifar10(data: Data, seed: int) -> tuple[Split, Split, list[str]]:
    """The official archive: kept in data/raw, read by torchvision once its md5 is right."""
    raw = lineage.main_checkout() / "data" / "raw"
    fetch_archive(data.url or CIFAR10.url, raw / CIFAR10.filename, CIFAR10.tgz_md5)
    train, test = (CIFAR10(str(raw), train=train, download=True) for train in (True, False))
    splits = [
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in (train, test)
    ]
    return splits[0], splits[1], list(train.classes)


def fetch_archive(url: str, path: Path, md5: str) -> None:
    """Bring the archive at `url` to `path`, where it appears only whole and with the right md5."""
    if path.exists() and lineage.md5(path) == md5:
        return
    try:
        with storage.replacing(path) as partial:
            with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as file:
                size = int(response.headers.get("Content-Length", 0))
                with tqdm.wrapattr(response, "read", total=size, desc=path.name, disable=None) as body:
                    shutil.copyfileobj(body, file, 1 << 20)
            found = lineage.md5(partial)
            if found != md5:
                raise InputError(
                    f"{url}: found an archive with md5 {found}, expected {md5}; it was not opened. "
                    "Point data.url at a whole copy of cifar-10-python.tar.gz"
                )
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise InputError(
            f"CIFAR-10: tried {url}, which failed: {reason}. Three ways on: set data.url to a mirror or to "
            f"file:///path/of/{path.name}; use your own pictures (data.source: folder, data.path); "
            "or type make demo, which needs no download"
        ) from None
