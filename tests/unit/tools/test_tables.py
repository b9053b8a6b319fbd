"""Do README and docs/ show the numbers of the committed reports, and would a number changed by hand be noticed?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import Model, load_params
from pipeline.study.assignment import LATENT_DIM, AssignmentVAE
from pipeline.tools import tables
from pipeline.tracking.records import CELLS, record_path
from pipeline.vae.networks import architecture, build_vae, multiply_adds
from tests.fixtures import ROOT

PAGES = [path.relative_to(ROOT).as_posix() for path in tables.pages(ROOT)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_numbers_of_the_committed_reports(page: str, published_folder: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert tables.with_tables(text, published_folder) == text, "python -m pipeline tables makes the tables anew"


@pytest.mark.parametrize("page", PAGES)
def test_a_number_changed_by_hand_is_noticed(page: str, published_folder: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in tables.BLOCK.finditer(text):
        changed = re.sub(r"(\d)\.(\d)", r"\1.9\2", block["table"], count=1)
        assert changed != block["table"]
        forged = text[: block.start("table")] + changed + text[block.end("table") :]
        assert tables.with_tables(forged, published_folder) == text


def test_every_table_stands_on_a_page() -> None:
    blocks = [block for page in PAGES for block in tables.BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))]
    assert {block["name"] for block in blocks} == set(tables.TABLES)


@pytest.mark.parametrize("model", ["fc", "conv"])
def test_the_assignments_layers_are_those_that_its_multiply_adds_are_counted_of(model: Model) -> None:
    ours = build_vae(architecture(load_params(ROOT / "params.yaml"), model), seed=0)
    with FlopCounterMode(display=False) as counter:
        AssignmentVAE(model)(torch.zeros(1, 3, 32, 32), torch.zeros(1, LATENT_DIM))
    assert multiply_adds(ours) == counter.get_total_flops() // 2


def test_the_command_fills_in_every_page(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (published / "docs").mkdir()
    empty = "before\n<!-- {} -->\nold\n<!-- end -->\nafter\n"
    (published / "README.md").write_text(empty.format("claims"))
    (published / "docs/page.md").write_text(empty.format("tracking"))
    monkeypatch.chdir(published)
    tables.main()
    for page, name in (("README.md", "claims"), ("docs/page.md", "tracking")):
        table = tables.table(name, published)
        assert Path(page).read_text() == empty.format(name).replace("old\n", table)


def test_other_processors_of_compared_trainings_are_said(published: Path) -> None:
    path = published / CELLS / "fc-0" / record_path("train@fc")
    (record,) = storage.load_json(path)
    storage.save_json(path, [record | {"environment": record["environment"] | {"processor": "another, avx9"}}])
    table = tables.table("budgets", published)
    assert "; another, avx9 (1)." in table or ": another, avx9 (1); " in table
    assert "\nModels of one kind are compared with models of another" in table


def test_a_marker_without_a_table_is_named(tmp_path: Path) -> None:
    text = "<!-- resluts -->\n<!-- end -->\n"
    with pytest.raises(InputError, match=r"found the marker resluts, expected one of summary, "):
        tables.with_tables(text, tmp_path)
