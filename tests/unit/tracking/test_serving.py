"""Does a trained VAE answer as an MLflow model, and refuse what it does not take in one line?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from pipeline import storage
from pipeline.storage.weights import load_trained
from pipeline.tracking import lineage, store, sync
from pipeline.vae.sampling import decode, posterior_means, prior_latents
from tests.fixtures import enter

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def served(finished_folder: Path) -> PyFuncModel:
    """The registered conv model of the finished folder."""
    with pytest.MonkeyPatch.context() as patch:
        enter(finished_folder, patch)
        patch.setenv("MLFLOW_TRACKING_URI", lineage.store_uri())
        model: PyFuncModel = mlflow.pyfunc.load_model("models:/shapes-conv@latest")
        return model


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)


def test_every_task_gives_what_the_pipeline_computes(finished: Path, served: PyFuncModel, images: Array) -> None:
    vae = load_trained("conv", torch.device("cpu")).vae
    means = posterior_means(vae, torch.from_numpy(images))
    expected = decode(vae, means).numpy()
    np.testing.assert_array_equal(served.predict(images), expected)
    np.testing.assert_array_equal(served.predict(images, params={"task": "reconstruct"}), expected)
    encoded: Array = np.asarray(served.predict(images, params={"task": "encode"}))
    assert encoded.dtype == np.float32
    assert encoded.shape == (3, 4)
    np.testing.assert_array_equal(encoded, means.numpy())
    np.testing.assert_array_equal(served.predict(encoded, params={"task": "decode"}), expected)
    sampled = served.predict(np.array(5), params={"task": "sample", "seed": 7})
    np.testing.assert_array_equal(sampled, decode(vae, prior_latents(vae, 5, 7)).numpy())


def test_arrays_without_a_type_as_in_json_are_images_too(served: PyFuncModel, images: Array) -> None:
    untyped = np.array(images.tolist(), dtype=object)
    np.testing.assert_array_equal(served.predict(untyped), served.predict(images))


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        (lambda x: x / 255, {}, "task reconstruct: found float64 [3, 3, 32, 32], expected images, uint8"),
        (lambda x: x[:, :1], {}, "found uint8 [3, 1, 32, 32], expected images, uint8 [N, 3, 32, 32]"),
        (lambda x: x.astype(int) + 300, {}, "found int64 [3, 3, 32, 32], expected images, uint8"),
        (lambda x: x, {"task": "decode"}, "found uint8 [3, 3, 32, 32], expected latents, float32 [N, 4]"),
        (lambda x: x, {"task": "sample"}, "expected one positive integer, how many to draw"),
        (lambda x: np.array(0), {"task": "sample"}, "expected one positive integer"),
        (lambda x: x, {"task": "dream"}, "found 'dream', expected one of reconstruct, encode, decode, sample"),
    ],
)
def test_what_a_task_does_not_take_is_one_line(
    served: PyFuncModel, images: Array, change: Callable[[Array], Array], params: dict[str, str], message: str
) -> None:
    with pytest.raises(MlflowException) as refusal:
        served.predict(change(images), params=params)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_it_needs_no_pickle_and_says_what_it_is(finished: Path, served: PyFuncModel) -> None:
    client = store.open_store()
    (version,) = client.search_model_versions("name = 'shapes-conv'")
    assert version.tags[lineage.WEIGHTS_TAG] == storage.md5(storage.weights_path("conv"))
    assert served.metadata.signature is not None
    assert served.metadata.saved_input_example_info is not None
    folder = Path(mlflow.artifacts.download_artifacts(str(version.source), tracking_uri=lineage.store_uri()))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_it_brings_the_code_that_it_needs_also_to_a_program_with_a_package_of_that_name(
    finished: Path, tmp_path: Path
) -> None:
    (version,) = store.open_store().search_model_versions("name = 'shapes-conv'")
    folder = mlflow.artifacts.download_artifacts(str(version.source), tracking_uri=lineage.store_uri())
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").write_text("mine = True\n")
    code = (
        "import mlflow, numpy, pipeline; assert pipeline.mine\n"
        f"print(mlflow.pyfunc.load_model({folder!r}).predict(numpy.array(2), {{'task': 'sample'}}).shape)"
    )
    elsewhere = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "(2, 3, 32, 32)\n", ran.stderr


def test_going_back_to_earlier_weights_makes_them_the_latest(copied: Path) -> None:
    sync.update_store()
    client = store.open_store()
    (first,) = client.search_model_versions("name = 'shapes-conv'")
    tags = {lineage.WEIGHTS_TAG: "another training"}
    client.create_model_version("shapes-conv", str(first.source), first.run_id, tags, model_id=first.model_id)
    sync.update_store()
    sync.update_store()
    latest = client.get_model_version_by_alias("shapes-conv", "latest")
    assert (str(latest.version), latest.tags) == ("3", first.tags)


def test_results_of_a_copy_register_nothing(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))  # as where DVC runs an experiment in a copy
    sync.update_store()
    client = store.open_store()
    assert {experiment.name for experiment in client.search_experiments()} == {"Default", "shapes", "shapes/figures"}
    assert client.search_registered_models() == []
