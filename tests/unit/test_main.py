"""Does `python -m pipeline <stage>` know every stage, and tell mistakes before it imports anything heavy?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from pipeline import __main__ as command
from pipeline.study import cells
from tests.fixtures import ROOT, TINY, merged, write_params

HEAVY = ("torch", "torchvision", "mlflow", "matplotlib", "pandas")
ENDED = f"""
import atexit, sys
atexit.register(lambda: print("imported", *sorted(set({HEAVY}) & sys.modules.keys())))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that says as it ends which heavy libraries it had imported."""
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks/sitecustomize.py").write_text(ENDED)
    environment = os.environ | {"PYTHONPATH": f"{folder / 'hooks'}:{ROOT}"}
    line = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["train"], ["study"]], ids=str)
def test_help_tells_what_there_is_and_imports_nothing_heavy(tmp_path: Path, arguments: Sequence[str]) -> None:
    finished = run(tmp_path, *arguments, "--help")
    assert finished.returncode == 0
    assert finished.stdout.startswith(f"usage: {' '.join(['python -m pipeline', *arguments])} [-h]")
    assert finished.stdout.endswith("\nimported\n")


@pytest.mark.parametrize("arguments", [["train", "fc"], ["download"], ["study", "wide", "train"]], ids=str)
def test_a_wrong_parameter_is_one_line_and_imports_nothing_heavy(workspace: Path, arguments: Sequence[str]) -> None:
    (workspace / "study").mkdir()
    (workspace / "study/params.yaml").write_text(yaml.safe_dump({"trainings": {"wide": {"model": "fc"}}}))
    write_params(workspace, merged(TINY, {"train": {"epochs": 0}}))
    finished = run(workspace, *arguments)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: params.yaml: train.epochs: found 0")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == "imported\n"


def test_a_wrong_parameter_of_a_cell_too(workspace: Path) -> None:
    (workspace / "study").mkdir()
    cells = {"odd": {"model": "fc", "set": {"train.epochs": 0}}}
    (workspace / "study/params.yaml").write_text(yaml.safe_dump({"trainings": cells}))
    finished = run(workspace, "study", "odd", "train")
    assert (finished.returncode, finished.stdout) == (1, "imported\n")
    assert "train.epochs: found 0" in finished.stderr


@pytest.mark.parametrize(
    "arguments", [["train"], ["train", "gru"], ["evaluate", "fc", "conv"], ["dream"], ["download", "fc"], []], ids=str
)
def test_an_unknown_stage_or_model_exits_with_2_and_names_the_known_ones(
    tmp_path: Path, arguments: Sequence[str]
) -> None:
    finished = run(tmp_path, *arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: python -m pipeline ")
    assert "Traceback" not in finished.stderr


def test_a_name_with_a_slip_leads_to_the_nearest_one(tmp_path: Path) -> None:
    finished = run(tmp_path, "evalaute", "fc")
    assert finished.returncode == 2
    assert finished.stderr.endswith("error: found the stage or tool evalaute, did you mean evaluate?\n")


@pytest.mark.parametrize("arguments", [["--help"], ["trace", "--help"]], ids=str)
def test_a_reader_that_has_gone_ends_any_command_silently(arguments: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "pipeline", *arguments]
    finished = subprocess.run(line, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert finished.returncode in (0, 128 + signal.SIGPIPE)  # 0: argparse passes over what it cannot write at once
    assert finished.stderr == ""


def test_the_commands_of_dvc_are_those_that_there_are() -> None:
    lines = []
    for path in ("dvc.yaml", "study/dvc.yaml"):
        stages = yaml.safe_load((ROOT / path).read_text())["stages"].values()
        lines += [stage.get("do", stage)["cmd"].split() for stage in stages]
    assert {line[3] for line in lines} == command.STAGES.keys()
    assert {line[5] for line in lines if line[3] == "study"} == set(cells.STAGES)
    assert {line[3] for line in lines if line[-1] == "${item.model}"} == {
        name for name, stage in command.STAGES.items() if "model" in stage.arguments
    }
