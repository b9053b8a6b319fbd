"""Do the cells of the theory questions become numbers, figures and words?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pipeline import download, storage
from pipeline.params import Estimator, Model
from pipeline.study import answers, cells, report
from pipeline.tracking.records import CELL_VARIABLE, CELLS, Record
from tests.fixtures import ROOT

MEASURES: dict[Model, list[str]] = {"conv": ["bound", "sampling", "smoothness"], "fc": ["bound"]}


def cell(model: Model, seed: int, /, **changes: Any) -> dict[str, Any]:
    shared = {"prior_components": 0, "train.epochs": 1, "survey.measures": MEASURES[model]}
    return {"model": model, "set": shared | {"seed": seed} | changes}


SWEEP = {
    f"kl-{weight}-{seed}": cell("conv", seed, kl_weight=float(weight))
    for weight, seed in ((0, 0), (1, 0), (1, 1), (16, 0))
}
SWEEP_FC = {f"fc-kl-{weight}-0": cell("fc", 0, kl_weight=float(weight)) for weight in (1, 16)}
AUTOENCODERS = {f"autoencoder-{seed}": cell("conv", seed, posterior="point", kl_weight=0.0) for seed in (0, 1)}
STUDY: dict[str, Any] = {
    "sweep": SWEEP,
    "sweep_fc": SWEEP_FC,
    "autoencoders": AUTOENCODERS,
    "trainings": SWEEP | SWEEP_FC | AUTOENCODERS,
    "gradients": {
        f"{estimator}-{seed}": cell("conv", seed, **{"train.learning_rate": 0.001, "gradients.estimator": estimator})
        for estimator in get_args(Estimator)
        for seed in (0, 1)
    },
}
STAGES = {"trainings": ("train", "survey"), "gradients": ("gradients",)}


@pytest.fixture
def answered(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which every cell of a small study has run, and the answers after them."""
    (workspace / "study").mkdir()
    (workspace / "study/params.yaml").write_text(yaml.safe_dump(STUDY))
    download.main()
    for group, stages in STAGES.items():
        for name in STUDY[group]:
            for stage in stages:
                monkeypatch.setenv(CELL_VARIABLE, "")
                cells.main(name, stage)
                monkeypatch.chdir(workspace)
    monkeypatch.setenv(CELL_VARIABLE, "")
    answers.main()
    return workspace


@pytest.mark.usefixtures("answered")
def test_every_number_is_a_mean_over_seeds_with_its_interval() -> None:
    found = storage.load_json(answers.ANSWERS)
    assert [(row["kl_weight"], row["trainings"]) for row in found["sweep"]] == [(0, 1), (1, 2), (16, 1)]
    rows = [storage.load_json(answers.metrics_path(f"kl-1-{seed}", "survey"))["bound"] for seed in (0, 1)]
    rate = found["sweep"][1]["rate"]
    assert rate["value"] == pytest.approx(sum(row["rate"] for row in rows) / 2)
    assert rate["interval"][0] < rate["value"] < rate["interval"][1]
    assert found["sweep"][0]["rate"]["interval"] is None
    assert [(row["kl_weight"], row["trainings"]) for row in found["sweep_fc"]] == [(1, 1), (16, 1)]
    of_fc = storage.load_json(answers.metrics_path("fc-kl-16-0", "survey", "fc"))
    assert found["sweep_fc"][1]["rate"]["value"] == of_fc["bound"]["rate"]
    assert "rate" not in found["autoencoder"]
    means = {"rate": "t", "mse": "t on logs", "prior_outside": "Wilson with t", "prior_kernel": "t"}
    assert {name: found["sweep"][1][name]["method"] for name in means} == means
    for row in (*found["sweep"], found["autoencoder"], *found["known_model"], *found["estimators"].values()):
        for name, number in row.items():
            if isinstance(number, dict) and number["interval"] and not name.endswith(("elbo", "kernel")):
                assert 0 <= number["interval"][0] <= number["interval"][1], name
    low, high = found["autoencoder"]["prior_outside"]["interval"]
    assert 0 <= low <= found["autoencoder"]["prior_outside"]["value"] <= high <= 1
    assert found["estimators"].keys() == set(get_args(Estimator))
    assert [row["latent_dim"] for row in found["known_model"]] == [1, 2]

    text = report.render_report(storage.load_json(ROOT / report.CLAIMS), found)
    assert f"| 1 (2) | {report.shown(rate, '.1f')} |" in text

    record = Record.load(storage.RUNS / "answers.json")
    shown = {
        "kl_weights": [*SWEEP, *SWEEP_FC],
        "smoothness": list(STUDY["sweep"]),
        "estimators": list(STUDY["gradients"]),
    }
    shown |= {"kl_weights_images": ["kl-0-0", "kl-1-0", "kl-16-0"], "autoencoder": ["kl-1-0", "autoencoder-0"]}
    for name, names in shown.items():
        chunks = storage.load_figure_text(storage.FIGURES / f"{name}.png")
        md5s = {f"{cell}.weights.md5": record.weights_md5[cell] for cell in names}
        assert {key: md5 for key, md5 in chunks.items() if key.endswith("weights.md5")} == md5s

    trained = Record.load(CELLS / "autoencoder-0" / storage.RUNS / "train@conv.json")
    assert (trained.parameters["posterior"], trained.parameters["kl_weight"]) == ("point", 0)
    surveyed = Record.load(CELLS / "kl-1-0" / storage.RUNS / "survey@conv.json")
    assert surveyed.metrics["test/bound/rate"] == rows[0]["rate"]


def test_what_a_cell_measured_for_claims_is_no_answer() -> None:
    survey: dict[str, Any] = {
        "radius": [{"radius": 0.0}],
        "interpolation": {"linear": {"value": 1.0}},
        "bound": {"rate": 2.0},
    }
    assert answers.flat(survey) == {"rate": 2.0}
