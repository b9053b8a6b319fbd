"""Does a cell of the study run the same stages in a workspace of its own, with what differs and nothing else?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline import download, storage
from pipeline.errors import InputError
from pipeline.params import MODELS, load_params, load_yaml
from pipeline.study import cells, claims, survey
from pipeline.tracking import store
from pipeline.tracking.records import CELL_VARIABLE, CELLS, Record, load_records
from tests.fixtures import ROOT, all_runs

SHARED = {"prior_components": 0, "train.epochs": 1, "evaluate.draws": 1}
STUDY = {
    "trainings": {
        "fc-0": {"model": "fc", "set": SHARED | {"seed": 0}},
        "wide": {"model": "fc", "set": SHARED | {"seed": 3, "networks.fc.hidden": [24]}},
        "odd": {"model": "gru"},
    },
    "assignments": {"assignment-fc-0": {"model": "fc", "set": {"seed": 2, "train.epochs": 1}}},
}


@pytest.fixture
def studied(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with data and a study of its own."""
    (workspace / "study").mkdir()
    (workspace / "study/params.yaml").write_text(yaml.safe_dump(STUDY))
    download.main()
    monkeypatch.setenv(CELL_VARIABLE, "")
    return workspace


def run(monkeypatch: pytest.MonkeyPatch, cell: str, *stages: str) -> Path:
    """Run stages as their commands do, each from the root."""
    root = Path.cwd()
    for stage in stages:
        cells.main(cell, stage)
        monkeypatch.chdir(root)
    return CELLS / cell


def test_a_cell_has_its_own_parameters_results_and_runs(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = run(monkeypatch, "wide", "train", "evaluate", "survey")
    params = load_params(cell / "params.yaml")
    assert (params.seed, params.networks.fc.hidden, params.train.epochs) == (3, [24], 1)
    assert load_params().networks.fc.hidden == [16]
    records = {record.stage: record for record in load_records(cell / storage.RUNS)}
    assert records.keys() == {"train@fc", "evaluate@fc", "survey@fc"}
    assert records["train@fc"].inputs == {"data/train.safetensors": storage.md5(storage.TRAIN_IMAGES)}
    tested = {str(path): storage.md5(path) for path in storage.IMAGES}
    assert all(tested.items() <= records[stage].inputs.items() for stage in ("evaluate@fc", "survey@fc"))
    assert records["train@fc"].parameters["networks.fc.hidden"] == [24]
    assert not storage.RUNS.joinpath("train@fc.json").exists()
    (found,) = all_runs(store.open_store())
    assert found.info.run_name == "fc kl=1 wide"
    assert found.data.tags["study.cell"] == "wide"
    assert store.open_store().get_experiment(found.info.experiment_id).name == "shapes/study"
    assert "test/samples_frechet" in found.data.metrics
    surveyed = storage.load_json(cell / storage.METRICS / "fc_survey.json")
    assert [row["radius"] for row in surveyed["radius"]] == pytest.approx([0, 1, 2, 3, 4])
    assert len(surveyed["luminance"]["diagonals"]) == 5
    assert surveyed["bound"]["rate"] > 0


@pytest.mark.usefixtures("finished")
def test_a_survey_asks_about_the_assignments_prior_alone() -> None:
    with pytest.raises(InputError, match=r"fc/weights.safetensors: found a prior of 3 components, expected N\(0, I\)"):
        survey.main("fc")


def test_the_assignments_recipe_is_measured_like_ours(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = run(monkeypatch, "assignment-fc-0", "assignment", "assess")
    metrics = storage.load_json(cell / storage.METRICS / "fc.json")
    assert metrics["training_loss"] > metrics["assignment_loss"] > 0
    assert metrics["samples_frechet"] > 0
    (found,) = all_runs(store.open_store())
    assert found.data.params["recipe"] == "assignment"
    assert found.data.metrics["test/assignment_loss"] == metrics["assignment_loss"]


def test_the_same_cell_again_gives_the_same_bits(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = run(monkeypatch, "fc-0", "train", "survey")
    first = {path: path.read_bytes() for path in cell.rglob("*") if path.suffix in (".safetensors", ".csv")}
    first |= {path: path.read_bytes() for path in (cell / storage.METRICS).iterdir()}
    shutil.rmtree(cell)
    run(monkeypatch, "fc-0", "train", "survey")
    assert first
    assert all(path.read_bytes() == content for path, content in first.items())


def test_claims_are_made_of_the_cells_numbers(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up numbers in every cell: conv is twice as good as FC, ours as the assignment's."""
    cell = run(monkeypatch, "fc-0", "train", "survey")
    surveyed = storage.load_json(cell / storage.METRICS / "fc_survey.json")
    committed = load_yaml(ROOT / "study/params.yaml")
    del committed["assignments"]["assignment-longer-conv"]
    compared = committed["layers_fc"] | committed["layers_conv"] | committed["rivals"] | committed["assignments"]
    for name, content in compared.items():
        model = content["model"]
        level = {"fc": 2.0, "conv": 1.0}[model] * (2 if "assignment" in name else 1)
        metrics = dict.fromkeys(("samples_frechet", "samples_kernel", "reconstructions_frechet"), level)
        storage.save_json(CELLS / name / storage.METRICS / f"{model}.json", metrics)
        storage.save_json(CELLS / name / storage.METRICS / f"{model}_survey.json", surveyed)
        weights = CELLS / name / storage.weights_path(model)
        if name != "fc-0":
            weights.parent.mkdir(parents=True)
            shutil.copy(cell / storage.weights_path("fc"), weights)
    shutil.copy(ROOT / "study/params.yaml", "study/params.yaml")
    claims.main()
    found = storage.load_json(claims.VERDICTS)["claims"]
    models = [(claim["number"], claim["model"]) for claim in found]
    assert models == [(1, "conv"), *((number, model) for number in (2, 3, 4, 5) for model in MODELS)]
    assert {claim["verdict"] for claim in found if claim["number"] in (1, 5)} == {"holds"}
    ratios = [part["value"] for part in found[0]["parts"] if not part["measure"].startswith("kernel")]
    assert ratios == pytest.approx([0.5] * 4)
    assert Record.load(storage.RUNS / "claims.json").inputs.keys() >= {
        f"study/cells/{name}/reports/metrics/{content['model']}.json" for name, content in compared.items()
    }
    assert "fc-0.weights.md5" in storage.load_figure_text(claims.RADIUS)


def test_unknown_cells_and_models_are_one_line(studied: Path) -> None:
    with pytest.raises(InputError, match=r"^study/params.yaml: found no cell fc-9, expected one of fc-0, odd, wide, "):
        cells.enter("fc-9")
    with pytest.raises(InputError, match=r"^study/params.yaml: trainings.odd.model: found 'gru', expected one of"):
        cells.enter("odd")


def test_a_parameter_that_does_not_exist_is_named(studied: Path) -> None:
    content = STUDY | {"trainings": {"typo": {"model": "fc", "set": {"train.epoch": 3}}}}
    (studied / "study/params.yaml").write_text(yaml.safe_dump(content))
    cells.enter("typo")
    with pytest.raises(InputError, match=r"train.epoch: unknown key; the nearest known one is train.epochs"):
        load_params()


def test_every_committed_cell_has_valid_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = load_yaml(ROOT / "study/params.yaml")
    monkeypatch.setenv(CELL_VARIABLE, "")
    every = [(group, name) for group in cells.GROUPS for name in content[group]]
    for group, name in every:
        folder = tmp_path / name
        (folder / "study").mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", folder)
        (folder / "study/params.yaml").write_text(json.dumps({group: {name: content[group][name]}}))  # YAML as well
        monkeypatch.chdir(folder)
        cells.enter(name)
        load_params()
