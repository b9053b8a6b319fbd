"""Does an interrupted training say what it saved, go on in the same run, and end as if nothing had been?"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from safetensors import SafetensorError

from pipeline import download, storage, train
from pipeline.command import run_command
from pipeline.tracking import store
from pipeline.tracking.checkpoints import FOLDER, Checkpoints
from pipeline.tracking.records import Record, record_path
from pipeline.tracking.runs import LiveRun
from tests.fixtures import TINY, all_runs, merged, write_params

RESULTS = (storage.weights_path("fc"), storage.CURVES / "fc.csv")


@pytest.fixture
def prepared(workspace: Path) -> Path:
    write_params(workspace, merged(TINY, {"run": {"checkpoint_seconds": 0}}))
    download.main()
    return workspace


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A stage's own handlers of signals, as `run_command` sets them, end with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and nohup the other
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def train_until(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> int | str | None:
    """Train FC as a command whose `act` comes when so many steps are done; return its exit status or last line."""
    asked = 0

    def due(_: Checkpoints) -> bool:
        nonlocal asked
        asked += 1
        if asked == step + (step > 4):  # it is asked once more as an epoch of four steps ends
            act()
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "due", due)
        with pytest.raises(SystemExit) as ended:
            run_command(lambda: train.main("fc"))
    return ended.value.code


def the_run() -> tuple[MlflowClient, str, str]:
    client = store.open_store()
    (run,) = all_runs(client)
    return client, run.info.run_id, run.info.status


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize(("step", "place"), [(3, "3 of 4 in epoch 1"), (6, "2 of 4 in epoch 2")], ids=["1st", "2nd"])
def test_a_signal_saves_first_and_the_same_command_goes_on(
    prepared: Path, finished_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    sent: signal.Signals, status: int, step: int, place: str,
) -> None:  # fmt: skip
    assert train_until(monkeypatch, step, lambda: signal.raise_signal(sent)) == status
    assert f"train@fc: saved after step {place}; the same command goes on from there\n" in capsys.readouterr().err
    client, run_id, run_status = the_run()
    assert run_status == "KILLED"
    assert not any(path.exists() for path in RESULTS)

    train.main("fc")
    assert capsys.readouterr().out == f"train@fc: going on after step {place}\n"
    for path in RESULTS:
        assert path.read_bytes() == (finished_folder / path).read_bytes()
    assert the_run()[1:] == (run_id, "FINISHED")
    assert [metric.step for metric in client.get_metric_history(run_id, "validation/elbo")] == [1, 2]
    assert client.get_run(run_id).data.tags["status.reason"] == ""
    assert not Path(FOLDER).exists()


def test_a_second_sigterm_waits_as_well(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    assert train_until(monkeypatch, 3, twice) == 143
    assert "saved after step 3 of 4 in epoch 1" in capsys.readouterr().err


def test_a_second_ctrl_c_ends_it_at_once(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    assert train_until(monkeypatch, 3, twice) == 130
    assert [path.name for path in sorted(Path(FOLDER).glob("*/0*"))] == [
        "000000001.safetensors", "000000002.safetensors",
    ]  # fmt: skip


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoints(
    prepared: Path, finished_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        told = train_until(patch, 3, lambda: patch.setattr(storage, "save_file", full))
    assert isinstance(told, str)
    assert told.startswith("error: the disk is full (Error while serializing: I/O error: No space left")
    assert "\n" not in told
    assert [path.name for path in sorted(Path(FOLDER).glob("*/*"))] == [
        "000000001.safetensors", "000000002.safetensors", "lock",
    ]  # fmt: skip
    assert the_run()[2] == "FAILED"
    train.main("fc")
    assert RESULTS[0].read_bytes() == (finished_folder / RESULTS[0]).read_bytes()
    assert the_run()[2] == "FINISHED"


def test_other_parameters_begin_anew_and_going_back_goes_on(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_until(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    (kept,) = Path(FOLDER).resolve().iterdir()
    write_params(prepared, merged(TINY, {"kl_weight": 2.0}))
    train.main("fc")
    told = f"a checkpoint of other data, parameters or code is left aside: {kept}"
    assert told in capsys.readouterr().out
    write_params(prepared, TINY)
    train.main("fc")
    assert "going on after step 3 of 4 in epoch 1" in capsys.readouterr().out
    assert sorted(run.info.status for run in all_runs(store.open_store())) == ["FINISHED", "FINISHED"]


def test_a_run_that_was_deleted_meanwhile_is_made_anew_with_its_history(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(monkeypatch, 6, lambda: signal.raise_signal(signal.SIGTERM))
    client, run_id, _ = the_run()
    client.delete_run(run_id)
    train.main("fc")
    _, new_id, status = the_run()
    assert status == "FINISHED"
    assert new_id == Record.load(record_path("train@fc")).run_id != run_id
    assert [metric.step for metric in client.get_metric_history(new_id, "train/rate")] == [1, 2]


def test_runs_of_killed_processes_are_ended_and_those_of_others_left_alone(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.open_store()
    here, there = (
        client.create_run("0", tags={"training.lock": f"{host}:/nowhere/lock"}).info.run_id
        for host in (socket.gethostname(), "elsewhere")
    )
    train.main("fc")
    assert client.get_run(here).info.status == "KILLED"
    assert client.get_run(here).data.tags["status.reason"] == "its process is gone"
    assert client.get_run(there).info.status == "RUNNING"


def test_killed_when_all_was_told_but_the_stage_not_done_its_run_stays_finished(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "remove", lambda _: None)
        train.main("fc")
    _, run_id, status = the_run()
    assert status == "FINISHED"
    for path in (*RESULTS, record_path("train@fc")):  # as DVC does before it runs a stage again
        path.unlink()
    train.main("fc")
    assert the_run()[1:] == (run_id, "FINISHED")


def test_a_collapsed_posterior_is_warned_of_once(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(workspace, merged(TINY, {"kl_weight": 1e4, "train": {"epochs": 6, "kl_warmup_epochs": 0}}))
    download.main()
    train.main("fc")
    warnings = capsys.readouterr().err.splitlines()
    assert len([line for line in warnings if line.startswith("warning: posterior collapse in epoch ")]) == 1


def test_a_live_run_is_told_no_epoch_twice(prepared: Path) -> None:
    train.main("fc")
    client, run_id, _ = the_run()
    record = Record.load(record_path("train@fc"))
    with LiveRun(record, prepared / "lock") as run:
        for row in record.history:
            run.log_epoch(row, {})
    assert [metric.step for metric in client.get_metric_history(run_id, "train/elbo")] == [1, 2]
