"""Does every file lead to its run, and is every broken link named?"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import MODELS
from pipeline.tools import trace
from pipeline.tracking import store, sync
from pipeline.tracking.records import Record, record_path

SAMPLES = storage.FIGURES / "conv_samples.png"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a trace read belongs to one command; here many run in one process."""
    yield
    trace.shelves_here.cache_clear()
    trace.stored_runs.cache_clear()


def traced(*arguments: str) -> int:
    """The exit status of the command."""
    trace.shelves_here.cache_clear()
    trace.stored_runs.cache_clear()
    with pytest.raises(SystemExit) as stop:
        trace.main(arguments)
    return int(stop.value.code or 0)


def test_a_image_leads_to_data_weights_code_and_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced(str(SAMPLES)) == 0
    printed = capsys.readouterr().out
    record = Record.load(record_path("train@conv"))
    assert record.run_id is not None
    for expected in (
        storage.md5(storage.IMAGES),
        record.weights_md5["conv"],
        "kl_weight  1",
        record.run_id,
        "conv kl=1",
    ):
        assert expected in printed
    assert f"make ui, then http://127.0.0.1:5050/#/experiments/1/runs/{record.run_id}" in printed
    assert Record.load(record_path("train@fc")).weights_md5["fc"] not in printed


def test_programs_get_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced("--json", str(storage.FIGURES / "interpolation.png"), "nowhere.png") == 1
    (found, missing) = json.loads(capsys.readouterr().out)
    assert [training["model"] for training in found["trainings"]] == ["fc", "conv"]
    assert missing == {"path": "nowhere.png", "error": "nowhere.png: no such file"}


@pytest.mark.parametrize(
    "path", [storage.weights_path("fc"), storage.METRICS / "fc.json", storage.CURVES / "fc.csv", storage.IMAGES]
)
def test_other_files_lead_there_too(finished: Path, path: Path) -> None:
    result = trace.trace_file(path)
    assert result.data_md5 == storage.md5(storage.IMAGES)
    assert [training.model for training in result.trainings] == ([] if path == storage.IMAGES else ["fc"])


def test_a_copy_elsewhere_is_the_same_image(finished: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES, tmp_path / "for a talk.png")
    result = trace.trace_file(tmp_path / "for a talk.png")
    assert (result.stage, [training.model for training in result.trainings]) == ("render", ["conv"])


def test_all_is_a_line_for_each_file(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traced("--all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 + 4 + 3 + 3  # figures, curves, metrics, weights
    assert all(line.startswith("ok ") for line in lines)


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
        f"absent  {storage.weights_path(model)}: dvc pull or dvc repro brings it"
        for model in sorted([*MODELS, "yardstick"])
    ]


def without_training_record(folder: Path) -> None:
    record_path("train@conv").unlink()


def without_drawing_record(folder: Path) -> None:
    record_path("render").unlink()
    store.database().unlink()  # type: ignore[union-attr]  # its runs would know the image


def without_data_record(folder: Path) -> None:
    record_path("download").unlink()


@pytest.mark.parametrize(
    ("take_out", "message"),
    [
        (without_training_record, "render read models/conv/weights.safetensors with md5"),
        (without_drawing_record, "no record here or in git's history lists it"),
        (without_data_record, "read data/images.safetensors with md5"),
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
    del content["params_file"]
    storage.save_json(path, [content | {"commit": None, "dirty": None}])
    assert (Record.load(path).commit, Record.load(path).params_file) == (None, "")
    assert traced(str(SAMPLES)) == 0
    assert "UTC, commit unknown\n" in capsys.readouterr().out


def test_a_run_that_the_store_lacks_is_said_with_what_restores_it(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(store.ARTIFACTS)
    for path in copied.glob(f"{store.DATABASE}*"):
        path.unlink()
    assert traced(str(SAMPLES)) == 0
    run_id = Record.load(record_path("train@conv")).run_id
    assert f"{run_id}: not in the MLflow store, make ui brings it there" in capsys.readouterr().out
    assert not Path(store.DATABASE).exists()


def test_a_training_that_mlflow_never_saw_leads_to_the_run_rebuilt_for_it(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (content,) = storage.load_json(record_path("train@conv"))
    storage.save_json(record_path("train@conv"), [content | {"run_id": None}])
    sync.update_store()
    assert traced(str(SAMPLES)) == 0
    assert "not in the MLflow store" not in capsys.readouterr().out


def test_without_a_network_a_trace_ends_well(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert traced(str(SAMPLES)) == 0
    assert "note: the MLflow store does not answer" in capsys.readouterr().err


def test_a_image_whose_records_are_gone_is_known_to_the_store(copied: Path) -> None:
    shutil.rmtree(storage.RUNS)
    result = trace.trace_file(SAMPLES)
    assert [training.model for training in result.trainings] == ["conv"]
    assert result.listed_in == "the store's tags"


def test_earlier_results_are_found_in_gits_history(copied: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "reports")
    git("commit", "--quiet", "--message", "published")
    shutil.copy(SAMPLES, tmp_path / "old.png")
    shutil.rmtree(storage.REPORTS)
    git("add", "reports")
    git("commit", "--quiet", "--message", "later")
    for path in copied.glob(f"{store.DATABASE}*"):
        path.unlink()
    result = trace.trace_file(tmp_path / "old.png")
    assert result.listed_in.startswith("reports/runs at commit ")
    assert [training.model for training in result.trainings] == ["conv"]
