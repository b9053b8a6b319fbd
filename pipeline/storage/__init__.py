"""Which formats do the files have? Every one is written here, atomically, and read here."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from yaml import YAMLError

from pipeline.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = dict[str, np.ndarray[Any, Any]]
Row = Mapping[str, Any]

FORMAT = (SafetensorError, csv.Error, YAMLError, SyntaxError)  # of libraries; the last is Pillow's, of damaged chunks
CONTENT = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)  # other keys, types or sizes than expected
DATA = Path("data")
TRAIN_IMAGES, TEST_IMAGES = IMAGES = (DATA / "train.safetensors", DATA / "test.safetensors")  # train has validation too
REPORTS = Path("reports")
METRICS, CURVES, FIGURES, RUNS = (REPORTS / name for name in ("metrics", "curves", "figures", "runs"))


def main_checkout() -> Path:
    """Root of the user's checkout, also where DVC runs a stage in a temporary copy of it (DVC_ROOT tells)."""
    return Path(os.environ.get("DVC_ROOT") or Path(__file__).parents[2]).resolve()


def weights_path(model: str) -> Path:
    """Where the weights of `model` lie, relative to the workspace: of fc, conv or the assignment's."""
    return Path("models", model, "weights.safetensors")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # as the user's umask has it; safetensors makes files for their owner alone
        yield partial
        if partial.stat().st_mode != mode:
            partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path, wrong: str, remedy: str = "; delete it and run dvc repro") -> Iterator[None]:
    """InputError where the block finds no such file, or one of which `wrong` tells what is wrong with it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected the output of an earlier stage; run dvc repro") from None
    except (*FORMAT, *CONTENT, OSError) as error:
        raise InputError(f"{path}: {wrong} ({' '.join(str(error).split())}){remedy}") from None


def save_tensors(path: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    """A safetensors file; `header` is JSON under one metadata key, since several keys have no fixed order."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with replacing(path) as partial:
        save_file(contiguous, partial, metadata={"header": json.dumps(header, sort_keys=True)})


def load_tensors(path: Path, names: Sequence[str] | None = None) -> tuple[Arrays, dict[str, Any]]:
    """The arrays called `names`, or all, and the header; InputError for a damaged or foreign file.

    Arrays are mapped: what is read of them is read from the file, and what is written to them stays out of it.
    """
    with reading(path, "truncated or no safetensors file"), safe_open(path, framework="pt") as file:  # "numpy" copies
        metadata = file.metadata() or {}
        if "header" not in metadata:
            raise InputError(f"{path}: was written by another program; expected a file of this pipeline; run dvc repro")
        if missing := set(names or ()) - set(file.keys()):
            raise InputError(f"{path}: found no {sorted(missing)[0]}, expected a file of images; run dvc repro")
        arrays = {name: file.get_tensor(name).numpy() for name in (file.keys() if names is None else names)}
        return arrays, json.loads(metadata["header"])


def spool(parts: Iterable[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Arrays [n, ...] one after the other as one [N, ...] that lies on the disk of the outputs and need not fit memory.

    Its file has no name and goes with it. Without any part it is [0].
    """
    DATA.mkdir(parents=True, exist_ok=True)
    count, part = 0, np.empty(0)
    with tempfile.TemporaryFile(dir=DATA) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
            count += len(part)
        file.flush()
        return np.memmap(file, part.dtype, "c", shape=(count, *part.shape[1:])) if count else part[:0]


def save_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON; ValueError for a number that is not finite."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """The content of a JSON file; InputError for one that is missing or damaged."""
    with reading(path, "is not readable JSON"):
        return json.loads(path.read_text(encoding="utf-8"))


def save_table(path: Path, rows: Sequence[Row]) -> None:
    """A CSV file with a header; floats are written with every digit that tells them apart."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def load_table(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV file written by `save_table`, as numbers."""
    with reading(path, "is not a table of numbers"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}


def save_figure(path: Path, figure: Figure, text: Mapping[str, str]) -> None:
    """A PNG with `text` as its text chunks; without date and software version, so equal figures are equal bytes."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None, **text})


def load_figure_text(path: Path) -> dict[str, str]:
    """The text chunks of a PNG."""
    from PIL import Image

    with reading(path, "is no whole PNG image", remedy=""), Image.open(path) as image:
        return {str(key): str(value) for key, value in image.info.items() if isinstance(value, str)}


def md5(path: Path) -> str:
    """The hash by which DVC names a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256(path: Path) -> str:
    """The sha256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
