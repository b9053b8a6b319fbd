"""Is the yardstick the committed one, small, and refused when it is another? Is the FID network checked first?"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from pipeline import download, evaluate, storage, train
from pipeline.errors import InputError
from pipeline.metrics.features import build_classifier, features_of, restore_classifier
from pipeline.storage import weights
from pipeline.storage.weights import YARDSTICK, load_inception, load_yardstick, save_yardstick
from tests.conftest import ROOT, TINY, merged, write_params

CPU = torch.device("cpu")


def test_the_committed_weights_are_float16_and_at_most_2_mb() -> None:
    arrays, header = storage.load_tensors(ROOT / YARDSTICK)
    assert {str(array.dtype) for array in arrays.values()} == {"float16"}
    assert (ROOT / YARDSTICK).stat().st_size <= 2_000_000
    assert len(header["classes"]) == 10


def test_saved_and_loaded_the_features_stay(workspace: Path, shapes: torch.Tensor) -> None:
    classifier = build_classifier(10, seed=5)
    save_yardstick(classifier, [str(number) for number in range(10)], {"name": "test"})
    loaded = restore_classifier(*load_yardstick(), CPU)
    torch.testing.assert_close(features_of(loaded, shapes), features_of(classifier, shapes), rtol=0.02, atol=0.02)
    assert all(torch.equal(value, value.half().float()) for value in loaded.parameters())


def test_weights_of_another_network_are_refused(workspace: Path) -> None:
    arrays, header = storage.load_tensors(YARDSTICK)
    storage.save_tensors(YARDSTICK, arrays | {"head.bias": arrays["head.bias"][:3]}, header)
    with pytest.raises(
        InputError, match=r"does not fit the yardstick \(.*head.bias.*\); git checkout models/yardstick"
    ):
        restore_classifier(*load_yardstick(), CPU)
    del arrays["head.bias"]
    storage.save_tensors(YARDSTICK, arrays, header)
    with pytest.raises(InputError, match="found other layers than those of the yardstick"):
        restore_classifier(*load_yardstick(), CPU)


def test_no_fid_network_without_a_path() -> None:
    assert load_inception(None) is None


def test_a_missing_or_wrong_fid_network_is_one_line_before_any_work(workspace: Path) -> None:
    write_params(workspace, merged(TINY, {"evaluate": {"inception_weights": "nowhere.pth"}}))
    with pytest.raises(InputError, match=r"^evaluate.inception_weights: .*nowhere.pth: cannot be read \(No such file"):
        evaluate.main("fc")
    shutil.copy(YARDSTICK, workspace / "nowhere.pth")
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
def test_with_the_fid_network_each_column_has_its_fid(workspace: Path, fid_network: Path) -> None:
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
        load_inception("harmful.pth")
