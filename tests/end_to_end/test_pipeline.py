"""Does the whole pipeline, through real dvc and git, rerun what an edit touches, repeat itself, and lose nothing?"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import Clone, save_images

pytestmark = pytest.mark.slow

TRAIN, EVALUATE = {"train@fc", "train@conv"}, {"evaluate@fc", "evaluate@conv"}
ALL = {"download", "render"} | TRAIN | EVALUATE


def results(folder: Path) -> dict[str, str]:
    """Hashes of weights, metrics, curves and figures by path."""
    kinds = ("models/*/*.safetensors", "reports/metrics/*", "reports/curves/*", "reports/figures/*")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in kinds
        for path in folder.glob(kind)
    }


def test_what_reruns_when(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    first = results(clone.folder)
    assert len(first) == 2 + 2 + 4 + 9

    assert clone.repro() == set()  # nothing edited

    clone.append("pipeline/tracking/sync.py", "\n# a comment\n")
    clone.edit_params({"run": {"threads": None}})
    assert clone.repro() == set()
    clone.edit_params({"run": {"threads": 1}})

    clone.edit_params({"render": {"samples": 9}})
    assert clone.repro() == {"render"}

    clone.append("pipeline/figures/plots.py", "\n# a comment\n")
    assert clone.repro() == {"render"}

    clone.edit_params({"evaluate": {"batch_size": 400}})  # still all images at once: the same bits
    assert clone.repro() == EVALUATE  # the metrics are the same, so render has nothing to do

    clone.edit_params({"networks": {"conv": {"channels": [3, 6]}}})
    assert clone.repro() == {"train@conv", "evaluate@conv", "render"}

    clone.edit_params({"kl_weight": 4.0})
    assert clone.repro() == TRAIN | EVALUATE | {"render"}

    save_images(clone.folder / "data/raw/tiny.tar", test=50)
    assert clone.repro("--force", "--single-item", "download") == {"download"}
    assert clone.repro() == EVALUATE | {"render"}  # of the test images alone, some are gone
    save_images(clone.folder / "data/raw/tiny.tar")
    clone.repro("--force", "--single-item", "download")

    # Back to the first parameters: everything comes from DVC's run cache, the image's bytes too.
    clone.edit_params({"kl_weight": 1.0, "networks": {"conv": {"channels": [4, 8]}}, "evaluate": {"batch_size": 500}})
    clone.edit_params({"render": {"samples": 4}})
    clone.run("git", "checkout", "--", "pipeline")
    assert clone.repro() == set()
    assert results(clone.folder) == first


def test_forced_again_the_bits_are_the_same_and_the_tables_are_useful(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    first = results(clone.folder)
    assert clone.repro("--force") == ALL
    assert results(clone.folder) == first
    assert clone.repro() == set()

    shown = json.loads(clone.run("dvc", "metrics", "show", "--json").stdout)
    (revision,) = shown.values()
    columns = {path: set(content["data"]) for path, content in revision["data"].items() if content.get("data")}
    assert columns.keys() == {f"reports/metrics/{name}.json" for name in ("fc", "conv")}  # no records
    assert {"elbo", "bits_per_dim", "ssim"} <= columns["reports/metrics/fc.json"]
    plots = json.loads(clone.run("dvc", "plots", "show", "--json").stdout)
    assert "elbo on validation images (nats per image)" in plots["data"]


def test_a_cell_of_the_study_is_a_stage_like_any_other(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    cell = clone.folder / "study/cells/fc-1"
    targets = [f"study/dvc.yaml:{stage}@fc-1" for stage in ("train", "evaluate", "survey")]
    assert clone.repro(*targets) == set(targets)
    first = {path: path.read_bytes() for path in cell.rglob("*") if path.is_file()}
    assert clone.repro(*targets) == set()
    assert clone.run("git", "status", "--porcelain", "--ignored", "study").stdout.count("models") <= 1
    shutil.rmtree(cell)
    assert clone.repro(*targets) == set()  # all comes back from DVC's caches
    assert all(path.read_bytes() == content for path, content in first.items() if path.is_relative_to(cell / "reports"))
    clone.append("pipeline/study/survey.py", "\n# a comment\n")
    assert clone.repro(*targets) == {targets[-1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"path": "data/raw/nowhere"}}, "error: data.path: "),
        ({"train": {"epochs": 0}}, "error: params.yaml: train.epochs: found 0, expected greater than 0"),
        ({"kl_weight": -1.0}, "error: params.yaml: kl_weight: found -1.0, expected greater than or equal to 0"),
    ],
)
def test_bad_input_is_one_line(clone: Clone, changes: dict[str, Any], message: str) -> None:
    clone.edit_params(changes)
    finished = clone.run("dvc", "repro", check=False)
    assert finished.returncode != 0
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(message)
    assert "Traceback" not in finished.stderr


def test_a_tree_without_git_history_is_told_what_to_type(clone: Clone) -> None:
    (clone.folder / ".git").rename(clone.folder.parent / "history")
    finished = clone.run("python", "-m", "pipeline", "demo", check=False)
    assert finished.returncode == 1
    (line,) = finished.stderr.strip().splitlines()
    assert line.startswith("error: this folder has no git history")
    assert 'git init && git add --all && git commit --message "start"' in line
