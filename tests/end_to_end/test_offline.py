"""Does a pipeline that was set up stay on this machine? Every Python process that it starts is watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures import HOOKS, Clone, serving

LOOK_UP = """
import contextlib, socket
with contextlib.suppress(OSError):
    socket.getaddrinfo("example.org", 443)
"""


def watched(clone: Clone, log: Path) -> Clone:
    """The clone, with no word about telemetry or updates but what the project itself says."""
    clone = clone.without_forks()
    environment = {key: value for key, value in clone.environment.items() if "TELEMETRY" not in key and key != "CI"}
    return Clone(clone.folder, environment | {"PYTHONPATH": HOOKS, "CONNECTIONS": str(log)})


def test_a_connection_to_outside_would_be_seen(tmp_path: Path, clone: Clone) -> None:
    log = tmp_path / "connections"
    watched(clone, log).python(LOOK_UP)
    assert log.read_text().startswith("example.org ")


@pytest.mark.slow
def test_repro_an_experiment_and_the_page_of_runs_open_no_connection_to_outside(
    tmp_path: Path, reproduced: Clone
) -> None:
    log = tmp_path / "connections"
    clone = watched(reproduced.copy(tmp_path / "checkout"), log)
    clone.run("dvc", "exp", "run", "--temp", "--set-param", "kl_weight=2", "train@fc")
    clone.edit_params({"kl_weight": 3.0})
    clone.repro()
    with serving(clone, "python", "-m", "pipeline", "ui", "--port", "{port}"):
        pass
    assert not log.exists(), log.read_text()
