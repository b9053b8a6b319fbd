"""Does params.yaml accept what makes sense, and name every mistake at once?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.params import MODELS, UNSTATED, USED_BY_STAGE, load_params, used_parameters
from tests.fixtures import ROOT, write_params
from tests.refusals import refused

FOLDER = {"source": "folder", "name": "mine", "path": "images"}


def mistakes(folder: Path, changes: Mapping[str, Any]) -> list[str]:
    """What is told about the committed parameters with `changes`, one entry per line, without the file's name."""
    write_params(folder, changes)
    return told(folder / "params.yaml")


def told(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_params(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines), lines
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_the_committed_file_is_valid_and_says_what_is_read() -> None:
    path = ROOT / "params.yaml"
    assert load_params(path).model_dump() == yaml.safe_load(path.read_text())


def test_parameters_cannot_change_after_loading() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kl_weight": -1.0}, "kl_weight: found -1.0, expected greater than or equal to 0"),
        ({"kl_weight": float("nan")}, "kl_weight: found nan, expected a finite number"),
        ({"likelihood": "normal"}, "likelihood: found 'normal', expected 'gaussian' or 'bernoulli'"),
        ({"latent_dim": 0}, "latent_dim: found 0, expected greater than 0"),
        ({"latent_dim": 1.5}, "latent_dim: found 1.5, expected a whole number"),
        ({"seed": True}, "seed: found True, expected a whole number"),
        ({"data": {"name": "a/b"}}, "data.name: found 'a/b', expected text that matches ^[A-Za-z0-9]"),
        ({"data": {"name": 10}}, "data.name: found 10, expected text"),
        ({"data": {"url": "http://example.org"}}, "data.url: found 'http://example.org', expected text that matches"),
        ({"train": {"epochs": 0}}, "train.epochs: found 0, expected greater than 0"),
        ({"train": {"horizontal_flips": "often"}}, "train.horizontal_flips: found 'often', expected true or false"),
        ({"train": None}, "train: found None, expected a mapping of parameters"),
        ({"networks": {"fc": {"hidden": 768}}}, "networks.fc.hidden: found 768, expected a list"),
        ({"networks": {"fc": {"hidden": []}}}, "networks.fc.hidden: found [], expected at least 1 of them"),
        ({"networks": {"fc": {"hidden": [9, 0]}}}, "networks.fc.hidden.1: found 0, expected greater than 0"),
        ({"networks": {"conv": {"channels": [1] * 6}}}, "networks.conv.channels: found [1, 1, 1, 1, 1, 1], expected"),
        ({"evaluate": {"mixture_images": 5}}, "evaluate.mixture_images: found 5, expected at least mixture_components"),
        ({"survey": {"radii": 6}}, "survey.radii: found 6, expected 5, 9, 13 or so on"),
        ({"survey": {"measures": ["color"]}}, "survey.measures.0: found 'color', expected 'radius', 'luminance', "),
        ({"posterior": "none"}, "posterior: found 'none', expected 'gaussian' or 'point'"),
        ({"run": {"threads": "all"}}, "run.threads: found 'all', expected a whole number"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_with_its_key(
    tmp_path: Path, changes: Mapping[str, Any], expected: str
) -> None:
    (line,) = mistakes(tmp_path, changes)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": "folder", "name": "mine"}, "data.path: found None, expected a folder or an archive of images"),
        ({"path": "images"}, "data.path: found 'images', expected null unless source is folder (source is cifar10)"),
        (FOLDER | {"url": "file:///a"}, "data.url: found 'file:///a', expected null unless source is cifar10"),
        ({"source": "shapes"}, "data.name: found 'cifar10', expected another name, because source is shapes"),
    ],
)
def test_source_path_url_and_name_must_agree(tmp_path: Path, changes: Mapping[str, Any], expected: str) -> None:
    (line,) = mistakes(tmp_path, {"data": changes})
    assert line.startswith(expected)


def test_a_point_wants_no_rate_and_no_mixture(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, {"posterior": "point"})
    assert [line.split(",")[0] for line in lines] == ["kl_weight: found 1.0", "prior_components: found 20"]
    write_params(tmp_path, {"posterior": "point", "kl_weight": 0.0, "prior_components": 0})
    assert used_parameters(load_params(tmp_path / "params.yaml"), "train", "fc")["posterior"] == "point"


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    lines = mistakes(
        tmp_path,
        {
            "kl_weight": -1.0,
            "latent_dim": 0,
            "likelihood": "normal",
            "train": {"epochs": 0, "learning_rate": "1e-3", "epoch": 1},
            "networks": {"conv": {"channels": [0]}},
        },
    )
    assert {line.split(":")[0] for line in lines} == {
        "kl_weight", "latent_dim", "likelihood", "train.epochs", "train.learning_rate", "train.epoch",
        "networks.conv.channels.0",
    }  # fmt: skip


def test_all_disagreements_within_data_are_told_at_once(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, {"data": {"source": "shapes", "path": "images", "url": "file:///a"}})
    assert {line.split(":")[0] for line in lines} == {"data.path", "data.url", "data.name"}


def test_an_unknown_key_is_told_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert mistakes(tmp_path, {"latent_dims": 8}) == ["latent_dims: unknown key; the nearest known one is latent_dim"]
    assert mistakes(tmp_path, {"train": {"learning_rates": 0.1}}) == [
        "train.learning_rates: unknown key; the nearest known one is train.learning_rate"
    ]
    assert mistakes(tmp_path, {"zzz": 8}) == ["zzz: unknown key"]


@pytest.mark.parametrize(
    ("key", "written", "number"),
    [
        ("learning_rate", "1e-3", "0.001"),
        ("learning_rate", "1e-5", "0.00001"),
        ("weight_decay", "25e-7", "0.0000025"),
        ("epochs", "1e1", "10"),
    ],
)
def test_a_number_that_yaml_reads_as_text_is_told_as_one_that_it_reads_as_a_number(
    tmp_path: Path, key: str, written: str, number: str
) -> None:
    (line,) = mistakes(tmp_path, {"train": {key: written}})
    assert f"\n  {key}: {written}\n" in (tmp_path / "params.yaml").read_text()
    assert line.startswith(f"train.{key}: found '{written}', expected a")
    assert line.endswith(f"; YAML reads {written} as text, write {number}")
    assert yaml.safe_load(number) == float(written)


def test_a_missing_key_is_told(tmp_path: Path) -> None:
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    del committed["seed"], committed["train"]["epochs"], committed["render"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(committed))
    lines = told(tmp_path / "params.yaml")
    assert [line.split(";")[0] for line in lines] == ["seed: missing", "train.epochs: missing", "render: missing"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"seed: [1", "is not YAML"),
        (b"\xff\xfe\xfd", "is not YAML"),
        (b"", "found NoneType, expected a mapping of parameters"),
        (b"- 1\n- 2\n", "found list, expected a mapping of parameters"),
        (b"seed", "found str, expected a mapping of parameters"),
    ],
)
def test_a_file_that_holds_no_parameters_is_told(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with refused(path, expected):
        load_params(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with refused(path, "cannot be read", "run where dvc.yaml lies"):
        load_params(path)


def test_a_stage_uses_its_leaves_and_no_other() -> None:
    params = load_params(ROOT / "params.yaml")
    assert used_parameters(params, "evaluate") == {
        "seed": params.seed,
        "evaluate.batch_size": 500,
        "evaluate.importance_samples": 64,
        "evaluate.importance_images": 2000,
        "evaluate.draws": 3,
        "evaluate.pairwise_images": 2500,
        "evaluate.mixture_components": 10,
        "evaluate.mixture_images": 10_000,
        "evaluate.inception_weights": None,
    }
    assert used_parameters(params, "download") == {
        "seed": params.seed,
        "data.source": params.data.source,
        "data.name": params.data.name,
        "data.path": params.data.path,
        "data.url": params.data.url,
        "data.validation": params.data.validation,
    }
    shared = {"kl_weight", "likelihood", "latent_dim", "prior_components", "seed"}
    shared |= {f"train.{name}" for name in params.train.model_dump()}
    assert used_parameters(params, "train", "fc").keys() == shared | {"networks.fc.hidden"}
    assert used_parameters(params, "train", "conv").keys() == shared | {"networks.conv.channels"}


def test_every_leaf_but_those_of_run_is_used_by_some_stage() -> None:
    def leaves(tree: Mapping[str, Any], prefix: str = "") -> set[str]:
        return {
            leaf
            for name, value in tree.items()
            for leaf in (leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name})
        }

    params = load_params(ROOT / "params.yaml")
    used = {key for stage in USED_BY_STAGE for model in MODELS for key in used_parameters(params, stage, model)}
    assert leaves(yaml.safe_load((ROOT / "params.yaml").read_text())) - used == {
        "run.threads",
        "run.checkpoint_seconds",
        UNSTATED[0],
    }
