"""Does every file lead to its run, and is every broken link named?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from PIL import Image, PngImagePlugin

from pipeline import __main__ as command
from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import MODELS
from pipeline.tools import trace
from pipeline.tracking import experiments, lineage, store, sync
from pipeline.tracking.records import Record, record_path
from tests.fixtures import ROOT, enter

SAMPLES = storage.FIGURES / "conv_samples.png"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a trace read belongs to one command; here many run in one process."""
    yield
    forget_all()


def forget_all() -> None:
    for remembered in (trace.folders_here, trace.shelf_of, trace.history, trace.stored_runs):
        remembered.cache_clear()


def traced(*arguments: str) -> int:
    """The exit status of the command."""
    forget_all()
    with pytest.raises(SystemExit) as stop, patch.object(sys, "argv", ["pipeline", "trace", *arguments]):
        command.main()
    return int(stop.value.code or 0)


def test_an_image_leads_to_data_weights_code_and_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced(str(SAMPLES)) == 0
    printed = capsys.readouterr().out
    record = Record.load(record_path("train@conv"))
    assert record.run_id is not None
    for expected in (
        *map(storage.md5, storage.IMAGES),
        record.weights_md5["conv"],
        "kl_weight  1",
        record.run_id,
        "conv kl=1",
    ):
        assert expected in printed
    assert f"make ui, then http://127.0.0.1:5050/#/experiments/1/runs/{record.run_id}" in printed
    assert Record.load(record_path("train@fc")).weights_md5["fc"] not in printed


def test_every_image_names_the_run_of_the_stage_that_drew_it(finished: Path) -> None:
    for path in Record.load(record_path("render")).images:
        result = trace.trace_file(Path(path))
        assert [run["name"] for run in result.runs] == ["render"], path


def test_programs_get_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced("--json", str(storage.FIGURES / "interpolation.png"), "nowhere.png") == 1
    (found, missing) = json.loads(capsys.readouterr().out)
    assert [training["model"] for training in found["trainings"]] == ["fc", "conv"]
    assert missing == {"path": "nowhere.png", "error": "nowhere.png: no such file"}


@pytest.mark.parametrize(
    "path", [storage.weights_path("fc"), storage.METRICS / "fc.json", storage.CURVES / "fc.csv", *storage.IMAGES]
)
def test_other_files_lead_there_too(finished: Path, path: Path) -> None:
    result = trace.trace_file(path)
    assert result.data_md5 == storage.md5(storage.TRAIN_IMAGES)
    tested = path in storage.IMAGES or path.parent == storage.METRICS
    assert result.test_md5 == (storage.md5(storage.TEST_IMAGES) if tested else None)
    assert [training.model for training in result.trainings] == ([] if path in storage.IMAGES else ["fc"])


def test_a_copy_elsewhere_is_the_same_image(finished: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES, tmp_path / "for a talk.png")
    result = trace.trace_file(tmp_path / "for a talk.png")
    assert (result.stage, [training.model for training in result.trainings]) == ("render", ["conv"])


def test_all_is_a_line_for_each_file(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced("--all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 + 4 + 2 + 2  # figures, curves, metrics, weights
    assert all(line.startswith("ok ") for line in lines)


def test_every_published_file_leads_to_its_origin(
    published_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(published_folder, monkeypatch)
    assert traced("--all") == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) > 100
    assert all(line.startswith("absent  ") for line in printed.err.splitlines())


@pytest.mark.slow
def test_every_published_image_names_the_run_that_drew_it_and_those_that_it_shows(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(published, monkeypatch)
    sync.update_everything()
    images = sorted(storage.FIGURES.glob("*.png"))
    assert len(images) > 15
    for image in images:
        result = trace.trace_file(image)
        assert result.runs, image
        assert result.trainings, image
        assert all(training.runs for training in result.trainings), image


@pytest.mark.parametrize("figure", ["fc_samples", "training_curves"])
def test_one_changed_byte_is_noticed(copied: Path, capsys: pytest.CaptureFixture[str], figure: str) -> None:
    path = storage.FIGURES / f"{figure}.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert traced("--all") == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {path}: ")


def test_a_figure_under_anothers_name_is_noticed(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(SAMPLES, storage.FIGURES / "fc_samples.png")
    assert traced("--all") == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {storage.FIGURES}/fc_samples.png: found sha256 ")
    assert "but render in reports/runs wrote" in error


def test_any_changed_byte_is_one_line(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = SAMPLES.read_bytes()
    for offset in range(0, 1200, 7):  # signature, chunks of text and of resolution, the first of the pixels
        SAMPLES.write_bytes(original[:offset] + bytes([original[offset] ^ 1]) + original[offset + 1 :])
        assert traced(str(SAMPLES)) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: {SAMPLES}: ")


def test_a_reencoded_image_has_lost_its_text(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(SAMPLES) as image:
        image.save(SAMPLES)
    assert traced(str(SAMPLES)) == 1
    assert "has no text data.md5 (edited or re-encoded" in capsys.readouterr().err


def test_foreign_weights_are_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(SAMPLES) as image:
        text = PngImagePlugin.PngInfo()
        text.add_text("data.md5", "d" * 32)
        text.add_text("conv.weights.md5", "c" * 32)
        image.save(SAMPLES, pnginfo=text)
    assert traced(str(SAMPLES)) == 1
    assert "but render in reports/runs wrote" in capsys.readouterr().err
    SAMPLES.rename("elsewhere.png")
    assert traced("elsewhere.png") == 1
    assert f"shows conv with weights {'c' * 32}, which no record here has" in capsys.readouterr().err


def test_a_missing_figure_is_a_broken_link(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SAMPLES.unlink()
    assert traced("--all") == 1
    assert f"error: {SAMPLES}: no such file" in capsys.readouterr().err


def test_absent_weights_are_only_said(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("models")
    assert traced("--all") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"absent  {storage.weights_path(model)}: dvc pull or dvc repro brings it" for model in sorted(MODELS)
    ]


def without_training_record(folder: Path) -> None:
    record_path("train@conv").unlink()


def without_drawing_record(folder: Path) -> None:
    record_path("render").unlink()
    lineage.database().unlink()  # type: ignore[union-attr]  # its runs would know the image


def without_data_record(folder: Path) -> None:
    record_path("download").unlink()


@pytest.mark.parametrize(
    ("take_out", "message"),
    [
        (without_training_record, "render read models/conv/weights.safetensors with md5"),
        (without_drawing_record, "no record here or in git's history lists it"),
        (without_data_record, "read data/train.safetensors with md5"),
    ],
)
def test_a_missing_record_is_named(
    copied: Path, capsys: pytest.CaptureFixture[str], take_out: Any, message: str
) -> None:
    take_out(copied)
    assert traced(str(SAMPLES)) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {SAMPLES}: ")
    assert message in error


def test_a_lock_of_other_results_is_noticed(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text(f"stages: {{render: {{outs: [{{path: {SAMPLES}, md5: {'a' * 32}}}]}}}}\n")
    assert traced(str(SAMPLES)) == 1
    assert f"but dvc.lock beside reports/runs says {'a' * 32}" in capsys.readouterr().err


def test_a_damaged_lock_is_one_line(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n=======\n")
    with pytest.raises(InputError, match=r"^dvc.lock: is no dvc.lock \(.*\); restore it from git$"):
        trace.trace_file(SAMPLES)


def test_a_record_that_knows_no_commit_gets_none(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record_path("train@conv")
    (content,) = storage.load_json(path)
    storage.save_json(path, [content | {"commit": None, "dirty": None}])
    assert traced(str(SAMPLES)) == 0
    assert "UTC, commit unknown\n" in capsys.readouterr().out


def test_a_run_that_the_store_lacks_is_said_with_what_restores_it(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(lineage.ARTIFACTS)
    for path in copied.glob(f"{lineage.DATABASE}*"):
        path.unlink()
    assert traced(str(SAMPLES)) == 0
    run_id = Record.load(record_path("train@conv")).run_id
    assert f"{run_id}: not in the MLflow store, make ui brings it there" in capsys.readouterr().out
    assert not Path(lineage.DATABASE).exists()


def test_a_training_that_mlflow_never_saw_leads_to_the_run_rebuilt_for_it(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (content,) = storage.load_json(record_path("train@conv"))
    storage.save_json(record_path("train@conv"), [content | {"run_id": None}])
    sync.update_store()
    assert traced(str(SAMPLES)) == 0
    assert "not in the MLflow store" not in capsys.readouterr().out


def test_the_stores_runs_come_from_their_index_without_mlflow(copied: Path) -> None:
    sync.update_store()  # the store that was copied is rebuilt
    index = lineage.stored_runs_path()
    assert index is not None
    known = [replace(run, name="from the index") for run in store.stored_runs()]
    lineage.save_stored_runs(index, known)
    heavy = {"mlflow", "torch", "pandas", "matplotlib", "pydantic"}
    code = (
        f"import atexit, sys; atexit.register(lambda: print({heavy} & sys.modules.keys())); from pipeline import tools"
    )
    code += (
        f"; from pipeline.tools import trace; trace.main([trace.Path('{SAMPLES}')], everything=False, as_json=False)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ", from the index\n" in finished.stdout
    assert finished.stdout.endswith("\nset()\n")


def test_a_damaged_index_is_one_line(copied: Path) -> None:
    index = lineage.stored_runs_path()
    assert index is not None
    index.write_text('{"runs": [{"id": "a"}]}')
    with pytest.raises(InputError, match=r"mlflow.db.runs.json: is no index of MLflow's runs; delete it, make ui"):
        trace.trace_file(SAMPLES)


def test_without_a_network_a_trace_ends_well(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert traced(str(SAMPLES)) == 0
    assert "note: the MLflow store does not answer" in capsys.readouterr().err


def test_an_image_whose_records_are_gone_is_known_to_the_store(copied: Path) -> None:
    shutil.rmtree(storage.RUNS)
    result = trace.trace_file(SAMPLES)
    assert [training.model for training in result.trainings] == ["conv"]
    assert result.listed_in == "the store's tags"


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def only_in_history(folder: Path, lock_md5: str | None = None) -> Path:
    """A copy of a figure whose records the commit before the last has alone, with a dvc.lock beside them."""
    figure = Path(shutil.copy(SAMPLES, "old.png"))
    lock = {"stages": {"render": {"outs": [{"path": str(SAMPLES), "md5": lock_md5 or storage.md5(figure)}]}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    git("init", "--quiet", "--initial-branch=main")
    git("add", "reports", "dvc.lock")
    git("commit", "--quiet", "--message", "published")
    git("rm", "--quiet", "-r", "reports")
    git("commit", "--quiet", "--message", "later")
    for path in folder.glob(f"{lineage.DATABASE}*"):
        path.unlink()
    return figure


def test_earlier_results_are_found_in_gits_history(copied: Path) -> None:
    result = trace.trace_file(only_in_history(copied))
    assert result.listed_in.startswith("reports/runs at commit ")
    assert [training.model for training in result.trainings] == ["conv"]


def test_those_of_an_experiment_are_on_no_branch(copied: Path) -> None:
    figure = only_in_history(copied)
    git("update-ref", "refs/exps/12/345678/wide", "HEAD~1")
    git("checkout", "--quiet", "--orphan", "other")
    git("commit", "--quiet", "--allow-empty", "--message", "start")
    git("branch", "--quiet", "-D", "main")
    assert trace.trace_file(figure).stage == "render"


def test_a_lock_of_other_results_is_noticed_in_history_too(copied: Path) -> None:
    figure = only_in_history(copied, lock_md5="a" * 32)
    with pytest.raises(InputError, match=r"but dvc.lock beside reports/runs at commit \w{10} says a{32}"):
        trace.trace_file(figure)


def test_records_of_another_version_in_history_are_said_and_passed_by(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {path: path.read_text() for path in storage.RUNS.glob("*.json")}
    figure = only_in_history(copied)
    storage.RUNS.mkdir(parents=True)
    for path, content in written.items():
        path.write_text(content.replace('"stage"', '"step"'))
    git("add", "reports")
    git("commit", "--quiet", "--message", "another version")
    git("rm", "--quiet", "-r", "reports")
    git("commit", "--quiet", "--message", "last")
    assert trace.trace_file(figure).stage == "render"
    assert "cannot be read\n" in capsys.readouterr().err


def test_gits_history_is_read_once_for_all_files(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only_in_history(copied)
    asked: list[str] = []

    def counted(*arguments: str) -> bytes:
        asked.append(arguments[0])
        return experiments.git(*arguments)

    monkeypatch.setattr(trace, "git", counted)
    paths = [Path(f"unknown-{i}") for i in range(5)]
    for path in paths:
        path.write_text(path.name)
    assert traced(*map(str, paths)) == 1
    assert capsys.readouterr().err.count("no record here or in git's history lists it") == len(paths)
    assert asked == ["log"]
