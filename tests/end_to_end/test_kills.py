"""Does a killed stage carry on and end with the same bits, wherever it was killed? Twenty kills at seeded events."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.params import MODELS
from pipeline.storage import md5
from pipeline.tracking.checkpoints import FOLDER
from pipeline.tracking.lineage import ORIGINAL_TAG
from pipeline.tracking.records import Record, record_path
from tests.fixtures import HOOKS, Clone, all_runs, clone_in, made_once, new_clone

pytestmark = pytest.mark.slow

OTHERS = ("download", "evaluate conv", "render")
STAGES = (*OTHERS, "train fc", "train conv")


@dataclass(frozen=True)
class Kill:
    """Which stage is killed at the how manieth event; `moment` from 0 to 1 is that event's share of all of its kind."""

    stage: str
    event: str
    moment: float
    through_dvc: bool
    whom: str

    def __str__(self) -> str:
        command = "dvc-repro" if self.through_dvc else "stage"
        return f"{command}-{self.stage.replace(' ', '-')}-{self.event}-{self.moment:.2f}-{self.whom}"


def chosen() -> list[Kill]:
    """Sixteen kills of stage commands, half of them of trainings, and four through `dvc repro`."""
    rng = random.Random(20)
    moments = [(f"train {model}", event) for model in MODELS for event in ("checkpoint", "rename", "log", "open")]
    moments += [(stage, event) for stage in OTHERS for event in ("open", "rename")]
    moments += [(stage, "open") for stage in OTHERS[1:]]
    kills = [Kill(stage, event, rng.random(), False, "child") for stage, event in moments]
    through_dvc = (("checkpoint", "child"), ("log", "group"), ("checkpoint", "group"), ("log", "leader"))
    kills += [Kill("train conv", event, rng.random(), True, whom) for event, whom in through_dvc]
    return kills


@dataclass(frozen=True)
class Undisturbed:
    clone: Clone
    counts: Mapping[str, Mapping[str, int]]  # of events, by stage


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A clone in which each stage has run, with a checkpoint after every step, and the events when it runs again."""

    def make(parent: Path) -> None:
        clone = new_clone(parent)
        clone.edit_params({"run": {"checkpoint_seconds": 0}})
        for stage in ("download", "train fc", "train conv", "evaluate fc", "evaluate conv", "render"):
            completed(clone.stage(stage))
        for stage in STAGES:
            forget_results(clone, stage)
            counts = parent / f"{stage}.json"
            completed(clone.stage(stage, KILL_STAGE=f"pipeline {stage}", KILL_COUNTS=str(counts), PYTHONPATH=HOOKS))

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return Undisturbed(
        clone_in(folder), {stage: json.loads((folder / f"{stage}.json").read_text()) for stage in STAGES}
    )


def completed(finished: subprocess.CompletedProcess[str]) -> str:
    """What a command printed that ended well."""
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def results(clone: Clone) -> dict[str, str]:
    """The md5 of all files that must have the same bits."""
    folders = ("data", "models", "reports/metrics", "reports/curves", "reports/figures")
    paths = [path for folder in folders for path in sorted((clone.folder / folder).rglob("*")) if path.is_file()]
    whole = [path for path in paths if ".partial" not in path.name and not path.name.startswith(".tmp")]
    return {str(path.relative_to(clone.folder)): md5(path) for path in whole}


def forget_results(clone: Clone, stage: str) -> None:
    """As DVC does before it runs a stage."""
    path = clone.folder / record_path(stage.replace(" ", "@"))
    for output in Record.load(path).outputs:
        (clone.folder / output).unlink()
    path.unlink()


@pytest.mark.parametrize("kill", chosen(), ids=str)
def test_it_carries_on_and_ends_with_the_same_bits(undisturbed: Undisturbed, tmp_path: Path, kill: Kill) -> None:
    clone = undisturbed.clone.copy(tmp_path / "checkout")
    number = 1 + int(kill.moment * undisturbed.counts[kill.stage][kill.event])
    if not kill.through_dvc:
        forget_results(clone, kill.stage)

    def command(**environment: str) -> subprocess.CompletedProcess[str]:
        if not kill.through_dvc:
            return clone.stage(kill.stage, **environment)
        line = ["dvc", "repro", "--force", "--single-item", kill.stage.replace(" ", "@")]
        return subprocess.run(
            line, cwd=clone.folder, env=clone.without_forks().environment | environment, start_new_session=True,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    moment = f"{kill.event} {number} {kill.whom}"
    killed = command(KILL_STAGE=f"pipeline {kill.stage}", KILL_AT=moment, PYTHONPATH=HOOKS)
    if kill.through_dvc and kill.whom == "child":
        assert re.search(r"exited with (-9|137)", killed.stderr)  # as the shell is replaced by its command, or not
    else:
        assert killed.returncode == -signal.SIGKILL, killed.stdout

    saved = list((clone.folder / FOLDER).glob("*/0*.safetensors"))
    assert ("going on after step" in completed(command())) == bool(saved)
    assert results(clone) == results(undisturbed.clone)
    assert not (clone.folder / FOLDER).exists()
    client = MlflowClient(f"sqlite:///{clone.folder / 'mlflow.db'}")
    runs = all_runs(client)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    for run in runs:
        if run.info.status == "FINISHED":
            for key in ("train/elbo", "validation/rate"):
                assert [metric.step for metric in client.get_metric_history(run.info.run_id, key)] == [1, 2]
    if saved:
        assert len(runs) == 2  # what is resumed has no second run; of the store that was copied the records are rebuilt
    for model in MODELS:
        name = Record.load(clone.folder / record_path(f"train@{model}")).run_id
        (run,) = [run for run in runs if name in (run.info.run_id, run.data.tags.get(ORIGINAL_TAG))]
        assert run.info.status == "FINISHED"
