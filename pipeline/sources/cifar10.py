"""Where does CIFAR-10 come from? The official archive, kept in data/raw and opened only when its md5 is right."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError
from pipeline.sources import Source, Split


def read_cifar10(url: str | None) -> Source:
    """The archive at `url`, by default the official address."""
    raw = storage.main_checkout() / "data" / "raw"
    fetch_archive(url or CIFAR10.url, raw / CIFAR10.filename, CIFAR10.tgz_md5)
    train, test = (CIFAR10(str(raw), train=train, download=True) for train in (True, False))
    splits = [
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in (train, test)
    ]
    return Source(splits[0], splits[1], list(train.classes))


def fetch_archive(url: str, path: Path, md5: str) -> None:
    """Bring the archive at `url` to `path`, where it appears only whole and with the right md5."""
    if path.exists() and storage.md5(path) == md5:
        return
    try:
        with storage.replacing(path) as partial:
            with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as file:
                size = int(response.headers.get("Content-Length", 0))
                with tqdm.wrapattr(response, "read", total=size, desc=path.name, disable=None) as body:
                    shutil.copyfileobj(body, file, 1 << 20)
            found = storage.md5(partial)
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
            f"file:///path/of/{path.name}; use your own images (data.source: folder, data.path); "
            "or type make demo, which needs no download"
        ) from None
