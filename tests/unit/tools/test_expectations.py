"""Are a cell's expected numbers those of its seeds, and is a rerun told from what is usual?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from scipy import stats

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tools import expectations
from pipeline.tracking.records import CELLS
from tests.fixtures import ROOT

MEASURED = ((-10.0, 0.9), (-11.0, 0.8), (-12.5, 0.99))
FOUND = {seed: {"elbo": elbo, "samples_recall": recall} for seed, (elbo, recall) in enumerate(MEASURED)}
TRAININGS = {f"fc-{seed}": {"model": "fc", "set": {"kl_weight": 1.0, "seed": seed}} for seed in FOUND}
TRAININGS["alone"] = {"model": "fc", "set": {"kl_weight": 2.0, "seed": 0}}
STUDY = {"trainings": TRAININGS, "evaluated": TRAININGS, "surveyed": {}, "assignments": {}, "gradients": {}}


@pytest.fixture
def studied(workspace: Path) -> Path:
    """A study of four cells, three of which differ in seed alone, with made-up numbers."""
    (workspace / "study").mkdir()
    (workspace / "study/params.yaml").write_text(yaml.safe_dump(STUDY))
    shutil.copy(ROOT / "study/dvc.yaml", "study/dvc.yaml")
    for seed, metrics in FOUND.items():
        storage.save_json(results(f"fc-{seed}"), metrics | {"draws": [1, 2]})
    storage.save_json(results("alone"), FOUND[0])
    return workspace


def results(cell: str) -> Path:
    """Where a cell has its numbers."""
    return CELLS / cell / storage.METRICS / "fc.json"


@pytest.mark.usefixtures("studied")
def test_another_seed_lies_within_students_prediction_interval() -> None:
    ranges = expectations.expected("fc-1")
    assert ranges.keys() == {"elbo", "samples_recall"}
    mean, deviation = sum(row["elbo"] for row in FOUND.values()) / 3, (19 / 12) ** 0.5  # by hand: squares sum to 19/6
    half = stats.t.ppf(0.975, 2) * deviation * (1 + 1 / 3) ** 0.5
    assert ranges["elbo"] == pytest.approx((mean - half, mean + half))
    assert 0 < ranges["samples_recall"][0] < ranges["samples_recall"][1] == 1  # a share is never more


@pytest.mark.usefixtures("studied")
def test_a_cell_says_its_command_settings_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    expectations.show("fc-0")
    told = capsys.readouterr().out
    assert "fc with kl_weight=1.0 seed=0" in told
    assert "dvc repro study/dvc.yaml:train@fc-0 study/dvc.yaml:evaluate@fc-0\n" in told
    assert "elbo                                              -10   -" in told
    expectations.show("alone")
    assert "-10   unknown: too few seeds" in capsys.readouterr().out
    expectations.show("")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(TRAININGS)


@pytest.mark.usefixtures("studied")
def test_a_cell_without_results_says_how_to_make_them() -> None:
    results("alone").unlink()
    with pytest.raises(InputError, match=r"alone: found no results, expected .*; type dvc repro study/dvc"):
        expectations.show("alone")


@pytest.mark.parametrize(
    ("again", "says", "status"),
    [
        ({"elbo": -10.0, "samples_recall": 0.9}, "the same bits in every number", None),
        ({"elbo": -10.1, "samples_recall": 0.9}, "within", 0),
        ({"elbo": -90.0, "samples_recall": 0.9}, "outside", 1),
    ],
)
def test_a_rerun_is_the_same_within_or_outside(
    studied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    again: dict[str, float],
    says: str,
    status: int | None,
) -> None:
    asked = []

    def run_again(name: str, overrides: list[str], targets: list[str]) -> str:
        asked.extend(targets)
        return "revision"

    def bring(revision: str, root: Path, *paths: str) -> None:
        shutil.copytree(studied / paths[0], root / paths[0])
        storage.save_json(root / results("fc-0"), again)

    monkeypatch.setattr(expectations, "run_experiment", run_again)
    monkeypatch.setattr(expectations, "forget_experiment", lambda name: None)
    monkeypatch.setattr(expectations, "export", bring)
    if status is None:
        expectations.rerun("fc-0")
    else:
        with pytest.raises(SystemExit) as stopped:
            expectations.rerun("fc-0")
        assert int(stopped.value.code or 0) == status
    assert says in capsys.readouterr().out
    assert asked == ["--force", "--single-item", "study/dvc.yaml:train@fc-0", "study/dvc.yaml:evaluate@fc-0"]
    assert storage.load_json(results("fc-0"))["elbo"] == FOUND[0]["elbo"]
