"""Do many machines make what one makes, whatever happens to them? Two nodes of a CPU each, on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.tracking import lineage
from tests.fixtures import HOOKS, Clone
from tests.processes import FORKS, lines_of

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow
CELLS = ("fc-0", "kl-0-0", "autoencoder-0")
# A stage of these cells tells its node and its cell, and ends once the cell may.
TELLING = """
import fcntl, os, sys
cell, folder = sys.argv[1], os.environ["EVENTS"]
with open(f"{folder}/told", "w") as told:
    told.write(f"{os.environ['NODE']} {cell}\\n")
with open(f"{folder}/{cell}") as may_end:
    fcntl.flock(may_end, fcntl.LOCK_SH)
os.makedirs(f"study/cells/{cell}", exist_ok=True)
with open(f"study/cells/{cell}/made", "w") as made:
    made.write(cell)
"""


class Nodes:
    """A head without CPUs, and nodes by name, each with one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0} | self.options("head")
        )
        self.nodes = {name: self.add(name) for name in ("a", "b")}

    def options(self, name: str) -> dict[str, Any]:
        path = os.pathsep.join([os.environ[FORKS], str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"NODE": name, "EVENTS": str(self.folder), "PYTHONPATH": HOOKS, "PATH": path}
        return {
            "node_ip_address": "127.0.0.1",
            "env_vars": own | {"CONNECTIONS": str(self.folder / "connections"), "RAY_USAGE_STATS_ENABLED": "0"},
        }

    def add(self, name: str) -> Any:
        return self.cluster.add_node(num_cpus=1, **self.options(name))

    def remove(self, name: str) -> None:
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("OMP_NUM_THREADS", "1")
        nodes = Nodes(tmp_path_factory.mktemp("nodes"))
        yield nodes
        nodes.cluster.shutdown()


def with_study(clone: Clone, stages: dict[str, Any]) -> Clone:
    """The clone with a study of three cells, and a last stage in place of claims and pages."""
    params = yaml.safe_load((clone.folder / "study/params.yaml").read_text())
    params |= {group: {cell: params["trainings"][cell] for cell in CELLS} for group in ("trainings", "surveyed")}
    params["evaluated"] = {"fc-0": params["trainings"]["fc-0"]}
    for cell in params["surveyed"].values():
        cell["set"]["survey.measures"] = ["bound"]
    (clone.folder / "study/params.yaml").write_text(yaml.safe_dump(params))
    (clone.folder / "study/dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    clone.commit("a small study")
    return Clone(clone.folder, clone.environment | {"RAY_AUTH_MODE": "disabled"})


def command(nodes: Nodes, *words: str) -> list[str]:
    return ["python", "-m", "pipeline", *words, "--cluster", nodes.cluster.address]


def test_the_head_finds_all_cells_made(clone: Clone, nodes: Nodes) -> None:
    declared = yaml.safe_load((clone.folder / "study/dvc.yaml").read_text())["stages"]
    last = {
        "wdir": "..",
        "cmd": "cp study/cells/fc-0/reports/metrics/fc.json reports/page.json",
        "deps": ["study/cells/fc-0/reports/metrics/fc.json"],
        "metrics": [{"reports/page.json": {"cache": False}}],
    }
    clone = with_study(clone, {name: declared[name] for name in ("train", "evaluate", "survey")} | {"page": last})
    connections = nodes.folder / "connections"
    watched = clone.without_forks()
    watched.environment |= {"PYTHONPATH": HOOKS, "CONNECTIONS": str(connections)}
    printed = watched.run(*command(nodes, "spread")).stdout
    assert "3 cells of the study to run" in printed
    assert clone.repro("study/dvc.yaml") == {"study/dvc.yaml:page"}
    assert json.loads(clone.run("dvc", "status", "--json", "study/dvc.yaml").stdout) == {}
    traced = clone.run("python", "-m", "pipeline", "trace", "--all").stdout.splitlines()
    assert sum("study/cells" in line and line.startswith("ok") for line in traced) >= 8
    runs = lineage.load_stored_runs(clone.folder / "mlflow.db.runs.json")
    assert len(runs) == len({run.tags[lineage.WEIGHTS_TAG] for run in runs}) == 3
    assert "0 cells" in clone.run(*command(nodes, "spread")).stdout
    assert not connections.exists(), connections.read_text()


class Conversation:
    """What cells tell as they start, and what lets them end."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "told").exists():
            os.mkfifo(folder / "told")
        self.told = os.fdopen(os.open(folder / "told", os.O_RDWR))  # for reading and writing it never ends
        self.held = {cell: (folder / cell).open("w") for cell in CELLS}
        for file in self.held.values():
            fcntl.flock(file, fcntl.LOCK_EX)

    def next(self) -> tuple[str, str]:
        node, cell = self.told.readline().split()
        return node, cell

    def end(self, cell: str) -> None:
        fcntl.flock(self.held[cell], fcntl.LOCK_UN)

    def close(self) -> None:
        for file in (self.told, *self.held.values()):
            file.close()


@pytest.fixture
def conversation(nodes: Nodes) -> Iterator[Conversation]:
    with contextlib.closing(Conversation(nodes.folder)) as conversation:
        yield conversation


@pytest.fixture
def telling(clone: Clone) -> Clone:
    """A clone whose study tells when a cell starts, and waits until it may end."""
    (clone.folder / "tell.py").write_text(TELLING)
    each = {"wdir": "..", "cmd": "python tell.py ${key}", "outs": ["study/cells/${key}/made"]}
    return with_study(clone, {"train": {"foreach": "${trainings}", "do": each}})


def test_a_node_that_goes_in_mid_cell_costs_no_cell(telling: Clone, nodes: Nodes, conversation: Conversation) -> None:
    with started(telling, command(nodes, "spread")) as head:
        gone, cut_off = conversation.next()
        nodes.remove(gone)
        for cell in CELLS:
            conversation.end(cell)
        while conversation.next() != ("b" if gone == "a" else "a", cut_off):
            pass
        assert head.wait() == 0
    nodes.nodes[gone] = nodes.add(gone)
    assert telling.repro("study/dvc.yaml") == set()
    assert {path.parent.name for path in telling.folder.glob("study/cells/*/made")} == set(CELLS)


def test_a_head_that_was_killed_sends_what_is_missing(telling: Clone, nodes: Nodes, conversation: Conversation) -> None:
    with started(telling, command(nodes, "spread")) as head:
        _, first = conversation.next()
        conversation.end(first)
        while "done" not in lines_of(head).readline():
            pass
        head.kill()
    with started(telling, command(nodes, "spread")) as head:
        assert lines_of(head).readline() == "2 cells of the study to run\n"
        for cell in CELLS:
            conversation.end(cell)
        assert head.wait() == 0
    assert telling.repro("study/dvc.yaml") == set()


def started(clone: Clone, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=clone.folder, env=clone.environment, stdout=subprocess.PIPE, text=True)


def test_a_sweep_is_experiments_like_any_other(reproduced: Clone, nodes: Nodes, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    clone.environment |= {"RAY_AUTH_MODE": "disabled"}
    clone.run(*command(nodes, "sweep", "kl_weight=2", "--model", "fc"))
    assert "fc-kl_weight-2" in clone.run("dvc", "exp", "list", "--name-only").stdout.split()
    runs = lineage.load_stored_runs(clone.folder / "mlflow.db.runs.json")
    assert "fc-kl_weight-2" in {run.tags.get("dvc.exp") for run in runs}


def test_uncommitted_code_is_refused(clone: Clone, nodes: Nodes) -> None:
    clone.append("pipeline/train.py", "\n# a comment\n")
    finished = clone.run(*command(nodes, "spread"), check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: uncommitted changes of code or pipeline")
