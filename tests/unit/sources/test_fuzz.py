"""Does input that nobody thought of end in a result or in lines that say what is wrong, never in a stack trace?"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import load_params
from pipeline.sources.folder import read_folder
from pipeline.storage.weights import load_weights, save_trained
from pipeline.tools import trace
from pipeline.tracking.records import Record, record_path
from tests.fixtures import ROOT
from tests.unit.sources.test_archives import GOOD, tar, zipped

pytestmark = pytest.mark.slow

CASES = settings(  # five kinds of input: 2,000 cases in all, the same ones every time
    max_examples=400,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIGURE = storage.FIGURES / "fc_samples.png"


@contextlib.contextmanager
def told_in_lines() -> Iterator[None]:
    """The block ends well or with an InputError whose lines are fit to print."""
    try:
        yield
    except InputError as error:
        lines = str(error).split("\n")
        assert all(line.isprintable() and line for line in lines), lines


def places(tree: Any, found: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below a tree of mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in [(*found, key), *places(value, (*found, key))]]


@st.composite
def edited(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with another value at a place or two, or without what was there."""
    result = copy.deepcopy(tree)
    for place in draw(st.lists(st.sampled_from(places(tree)), min_size=1, max_size=2)):
        with contextlib.suppress(LookupError, TypeError):  # the first edit took the second one's place away
            parent = result
            for key in place[:-1]:
                parent = parent[key]
            if draw(st.booleans()) and isinstance(parent, dict):
                parent[draw(st.text(max_size=8))] = parent.pop(place[-1])
            else:
                parent[place[-1]] = draw(VALUES)
    return result


@st.composite
def damaged(draw: st.DrawFn, content: bytes, most: int | None = None) -> bytes:
    """Bytes of which a few, among the first `most`, were overwritten, taken out or put in, or whose end is missing."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, min(len(result), most or len(result))))
        result[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(result[: draw(st.none() | st.integers(0, len(result)))])


PARAMS_TEXT = (ROOT / "params.yaml").read_text()


@CASES
@given(edited(yaml.safe_load(PARAMS_TEXT)).map(yaml.safe_dump) | damaged(PARAMS_TEXT.encode()))
def test_params(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with told_in_lines():
        load_params(path)


@CASES
@given(st.data())
def test_weights(workspace: Path, tiny_vae: Callable[..., Any], data: st.DataObject) -> None:
    path = storage.weights_path("fc")
    if not path.exists():
        save_trained(tiny_vae(), "shapes", "0" * 32, {"kl_weight": 1.0})
        path.with_name("good").write_bytes(path.read_bytes())
    good = path.with_name("good").read_bytes()
    path.write_bytes(data.draw(damaged(good, most=int.from_bytes(good[:8], "little") + 8)))
    with told_in_lines():
        load_weights(path, torch.device("cpu"))


@CASES
@given(st.data())
def test_figures(copied: Path, data: st.DataObject) -> None:
    good = copied / "good.png"
    if not good.exists():
        good.write_bytes(FIGURE.read_bytes())
    FIGURE.write_bytes(data.draw(damaged(good.read_bytes(), most=1500)))
    with told_in_lines():
        trace.trace_file(FIGURE)


@CASES
@given(st.data())
def test_records(copied: Path, data: st.DataObject) -> None:
    path = record_path(data.draw(st.sampled_from(["train@fc", "evaluate@fc", "render", "download"])))
    good = path.read_text()
    try:
        path.write_text(json.dumps(data.draw(edited(json.loads(good)))))
        with told_in_lines():
            Record.load(path)
            trace.trace_file(FIGURE)
    finally:
        path.write_text(good)


@CASES
@given(st.data())
def test_archives(tmp_path: Path, data: st.DataObject) -> None:
    path, write = tmp_path / "archive", data.draw(st.sampled_from([tar, zipped]))
    write(path, GOOD)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with told_in_lines():
        read_folder(path)
