"""Does whatever `download` accepts run through every stage, however few or many, with the parameters as committed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline import download, evaluate, render, storage, train
from pipeline.params import MODELS
from pipeline.study import gradients, survey
from tests.fixtures import ROOT, TINY, enter, merged
from tests.refusals import refused


@dataclass(frozen=True)
class Own:
    """Images of one's own, given to the classes in turn, and what differs from params.yaml."""

    train: int
    test: int
    classes: list[str]
    validation: int = 4
    params: Mapping[str, Any] = field(default_factory=dict)


SMALL = {
    "the smallest": Own(7, 4, ["faces"]),
    "two classes of odd names": Own(8, 4, ["$5_$10", "_\u732b"]),
    "one latent dimension": Own(40, 20, [*"abcdefghijkl"], params={"latent_dim": 1}),
    "no divergence": Own(40, 20, ["a", "b"], params={"kl_weight": 0.0}),
    "200 classes": Own(600, 400, [f"class {number}" for number in range(200)]),
}


def prepare(folder: Path, own: Own, patch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", own.train), ("test", own.test)):
        for number in range(count):
            path = folder / "own" / split / own.classes[number % len(own.classes)] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    enter(folder, patch)
    data = {"source": "folder", "name": "own", "path": "own", "validation": own.validation}
    quick = {"train": {"epochs": 1}, "networks": {"fc": {"hidden": [16]}, "conv": {"channels": [4, 8]}}}
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    few = {"evaluate": {"importance_samples": 4}}  # the time that it takes is all that it changes
    params = merged(merged(committed, {"data": data} | quick | few), own.params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_through_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    prepare(tmp_path, SMALL[name], monkeypatch)
    download.main()
    for model in MODELS:
        train.main(model)
    for model in MODELS:
        evaluate.main(model)
    render.main()
    assert len(list(storage.FIGURES.iterdir())) == 9
    for model in MODELS:
        metrics = storage.load_json(storage.METRICS / f"{model}.json")
        assert ("linear_probe_accuracy" in metrics) == (len(SMALL[name].classes) > 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["the smallest", "two classes of odd names", "one latent dimension"])
def test_so_do_the_measurements_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    few = {"radii": 5, "directions": 100, "pairwise_images": 100, "diagonals": 5, "measures": [*survey.MEASURES]}
    quick = {"prior_components": 0, "gradients": TINY["gradients"], "survey": few}
    own = SMALL[name]
    prepare(tmp_path, replace(own, params=merged(quick, own.params)), monkeypatch)
    download.main()
    train.main("conv")
    survey.main("conv")
    gradients.main("conv")
    found = storage.load_json(storage.METRICS / "conv_survey.json")
    assert found.keys() == survey.MEASURES.keys()


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (Own(5, 4, ["a"]), "data.validation: found 4, expected at most 3, since of 5 training images 2 must remain"),
        (Own(6, 3, ["a"]), "own: found 3 test images, expected at least 4"),
    ],
)
def test_less_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Own, told: str
) -> None:
    prepare(tmp_path, own, monkeypatch)
    with refused(told):
        download.main()


def test_a_weight_past_all_comparison_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = {"kl_weight": 1e38, "train": {"kl_warmup_epochs": 0}}
    prepare(tmp_path, Own(40, 20, ["a", "b"], params=params), monkeypatch)
    download.main()
    with refused("lower kl_weight (1e+38), train.learning_rate"):
        train.main("fc")
    assert "warning: kl_weight 1e+38 leaves reconstructions next to no weight" in capsys.readouterr().err
