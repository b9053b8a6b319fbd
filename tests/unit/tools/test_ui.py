"""Does `make ui` bring the store up to date and open the comparison?"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import download, storage, train
from pipeline.params import MODELS
from pipeline.tools import ui
from pipeline.tracking import store, sync
from pipeline.tracking.records import CELL_VARIABLE


def test_without_runs_it_says_how_to_make_some(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no runs yet; type make demo or make repro first"):
        ui.main(5055, "127.0.0.1")


def test_it_serves_the_store_at_the_comparison_of_the_newest_runs(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[Any] = []

    class Server(contextlib.nullcontext[Any]):
        def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
            super().__init__(self)
            events.append(arguments)

        def wait(self) -> int:
            events.append("waits")
            raise KeyboardInterrupt

        def terminate(self) -> None:
            events.append("ends")

    monkeypatch.setattr(ui, "subprocess", SimpleNamespace(Popen=Server))
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(sync, "update_everything", lambda: events.append("the rest"))
    download.main()
    for model in (*MODELS, "conv"):
        train.main(model)  # conv twice: the newest counts
    newest = {storage.load_json(storage.RUNS / f"train@{model}.json")[0]["run_id"] for model in MODELS}
    with monkeypatch.context() as patch:
        patch.setenv(CELL_VARIABLE, "fc-0")
        train.main("fc")  # later still, but of the study
    ui.main(5055, "127.0.0.1")

    assert "http://127.0.0.1:5055/#/experiments/1/runs?viewStateShareKey=comparison" in capsys.readouterr().out
    arguments, *then = events
    assert then == ["the rest", "waits", "ends"]
    assert f"sqlite:///{workspace / 'mlflow.db'}" in arguments
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    client = store.open_store()
    view = json.loads(client.get_experiment("1").tags["mlflow.sharedViewState.comparison"])
    assert len(client.search_runs(["1"])) == 3
    assert {run.info.run_id for run in client.search_runs(["1"], view["searchFilter"])} == newest


def test_a_server_that_runs_already_is_only_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5999")
    monkeypatch.setattr(ui, "comparison", lambda: "#/experiments/7")
    ui.main(5050, "127.0.0.1")
    assert capsys.readouterr().out.endswith("Compare FC and conv: http://127.0.0.1:5999/#/experiments/7\n")
