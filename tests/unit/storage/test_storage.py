"""Does every file come back as it was written, byte for byte the same each time, and never half of it?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from pipeline import storage
from pipeline.errors import InputError
from tests.refusals import refused

ARRAYS: storage.Arrays = {
    "images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(0.1, dtype=np.float32),
    "labels": np.array([3, -1], dtype=np.int64),
}
HEADER = {"name": "shapes", "classes": ["disc", "ring"], "nested": {"b": 1, "a": None}}
ROWS = [{"epoch": 1, "elbo": 0.1 + 0.2}, {"epoch": 2, "elbo": -1e-30}, {"epoch": 3, "elbo": 1e300 / 3}]
TEXT = {"data.md5": "0" * 32, "parameters": '{"seed": 0}'}


def figure() -> Figure:
    drawing = Figure(figsize=(1, 1))
    drawing.subplots().plot([1, 2, 4])
    return drawing


def save_tensors(path: Path) -> None:
    storage.save_tensors(path, ARRAYS, HEADER)


def save_json(path: Path) -> None:
    storage.save_json(path, HEADER)


def save_table(path: Path) -> None:
    storage.save_table(path, ROWS)


def save_figure(path: Path) -> None:
    storage.save_figure(path, figure(), TEXT)


@pytest.mark.parametrize("save", [save_tensors, save_json, save_table, save_figure])
def test_others_may_read_a_file_as_the_umask_says(tmp_path: Path, save: Callable[[Path], None]) -> None:
    (tmp_path / "plain").touch()
    save(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_written_to_loaded_arrays_stays_out_of_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    arrays, _ = tensors(tmp_path / "a.safetensors")
    for array in arrays.values():
        array[...] = 1
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_spooled_arrays_are_one_that_can_be_written_to_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [np.full((rows, 2, 3), rows, dtype=np.uint8) for rows in (3, 1, 2)]
    spooled = storage.spool(parts)
    np.testing.assert_array_equal(spooled, np.concatenate(parts))
    spooled[0] = 9  # as torch.from_numpy wants
    assert storage.spool([]).shape == (0,)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def tensors(path: Path) -> tuple[storage.Arrays, dict[str, Any]]:
    return storage.load_tensors(path)


def test_arrays_come_back_with_dtype_shape_and_header(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors")
    arrays, header = tensors(tmp_path / "a.safetensors")
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        assert array.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_only_the_arrays_that_were_asked_for_are_read(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors")
    arrays, _ = storage.load_tensors(tmp_path / "a.safetensors", ["labels"])
    assert arrays.keys() == {"labels"}
    refused = pytest.raises(InputError, match=r"a\.safetensors: found no test_images, expected a file of images")
    with refused:
        storage.load_tensors(tmp_path / "a.safetensors", ["labels", "test_images"])


def test_json_comes_back(tmp_path: Path) -> None:
    save_json(tmp_path / "a.json")
    assert storage.load_json(tmp_path / "a.json") == HEADER


def test_tables_come_back_to_the_last_digit(tmp_path: Path) -> None:
    save_table(tmp_path / "a.csv")
    assert storage.load_table(tmp_path / "a.csv") == {
        "epoch": [1.0, 2.0, 3.0],
        "elbo": [row["elbo"] for row in ROWS],
    }


def test_a_figure_carries_the_given_text_and_no_other(tmp_path: Path) -> None:
    save_figure(tmp_path / "a.png")
    assert storage.load_figure_text(tmp_path / "a.png") == TEXT


@pytest.mark.parametrize("save", [save_tensors, save_json, save_table, save_figure])
def test_equal_content_is_equal_bytes(tmp_path: Path, save: Callable[[Path], None]) -> None:
    first, second = tmp_path / "a", tmp_path / "new" / "folder" / "b"
    save(first)
    save(second)
    assert first.read_bytes() == second.read_bytes()


def test_headers_are_equal_bytes_whatever_the_order_of_their_keys(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a")
    storage.save_tensors(tmp_path / "b", ARRAYS, dict(reversed(HEADER.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def fail_tensors(path: Path) -> None:
    storage.save_tensors(path, {"text": np.array(["no number"])}, HEADER)


def fail_json(path: Path) -> None:
    storage.save_json(path, {"fine": 1, "not": object()})


def fail_table(path: Path) -> None:
    storage.save_table(path, [*ROWS, {"another": 1}])


def fail_half_way(path: Path) -> None:
    with storage.replacing(path) as partial:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("fail", [fail_tensors, fail_json, fail_table, fail_half_way])
def test_a_write_that_fails_leaves_the_earlier_file_and_no_partial_one(
    tmp_path: Path, fail: Callable[[Path], None]
) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"earlier")
    with pytest.raises(BaseException):  # noqa: B017, PT011 - which one does not matter here
        fail(path)
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
    assert path.read_bytes() == b"earlier"


@pytest.mark.parametrize("load", [tensors, storage.load_json, storage.load_table, storage.load_figure_text])
def test_a_missing_file_is_told(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with refused(tmp_path / "missing", "no such file"):
        load(tmp_path / "missing")


@pytest.mark.parametrize("load", [tensors, storage.load_json, storage.load_table, storage.load_figure_text])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 99, b"a" * 200_000], ids=["empty", "binary", "long"])
def test_a_file_of_another_kind_is_told(tmp_path: Path, load: Callable[[Path], object], content: bytes) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with refused(path):
        load(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_of_tensors_is_told(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with refused(path, "truncated", "dvc repro"):
        tensors(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_of_another_program_are_told(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "a.safetensors"
    save_file(ARRAYS, path, metadata=metadata)
    with refused(path, "another program"):
        tensors(path)


def test_a_broken_header_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(ARRAYS, path, metadata={"header": json.dumps(HEADER)[:-1]})
    with refused(path):
        tensors(path)


def test_broken_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save_json(path)
    path.write_text(path.read_text()[:-5])
    with refused(path, "not readable JSON"):
        storage.load_json(path)


@pytest.mark.parametrize("content", ["epoch,elbo\n", "epoch,elbo\n1\n", "epoch,elbo\n1,2,3\n", "epoch,elbo\n1,<<<<\n"])
def test_a_broken_table_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with refused(path, "not a table of numbers"):
        storage.load_table(path)
