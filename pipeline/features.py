"""Which networks turn pictures into features? The project's own yardstick, and the one that papers use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (what torch.load raises when it refuses to unpickle)
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.vae.classifier import Classifier, build_classifier

YARDSTICK = Path("models/yardstick/weights.safetensors")  # in git: every distance depends on it
INCEPTION_SHA256 = "6726825d"  # begins that of weights-inception-2015-12-05-6726825d.pth, of torch-fidelity's releases


def save_yardstick(classifier: Classifier, classes: list[str], data: Mapping[str, Any]) -> None:
    """Write the weights, rounded to float16; what counts batches is left out."""
    arrays = {
        name: value.half().cpu().numpy() for name, value in classifier.state_dict().items() if value.is_floating_point()
    }
    storage.save_tensors(YARDSTICK, arrays, {"classes": classes, "data": data})


def load_yardstick(device: torch.device) -> Classifier:
    """The classifier that `make yardstick` trained; InputError when the file is another one."""
    arrays, header = storage.load_tensors(YARDSTICK)
    state = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    try:
        classifier = build_classifier(len(header["classes"]), seed=0)
        expected = {name for name, value in classifier.state_dict().items() if value.is_floating_point()}
        if expected != state.keys():
            raise InputError(f"{YARDSTICK}: found other layers than those of the yardstick; git checkout {YARDSTICK}")
        classifier.load_state_dict(state, strict=False)
    except (LookupError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{YARDSTICK}: does not fit the yardstick ({reason}); git checkout {YARDSTICK}") from None
    return classifier.to(device).eval()


class Inception(nn.Module):
    """The FID network of torch-fidelity: uint8 pictures [B, 3, H, W] to features [B, 2048]."""

    def __init__(self, path: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))

    @torch.no_grad()
    def features(self, images: Tensor, device: torch.device, batch_size: int = 50) -> Tensor:
        """Features of uint8 images [N, 3, 32, 32], float32 [N, 2048] on the CPU."""
        network = self.network.to(device)
        return torch.cat([network(batch.to(device))[0].cpu() for batch in images.split(batch_size)])


def load_inception(path: str | None) -> Inception | None:
    """The standard FID network from its file, relative to the main checkout; None without a path.

    torch-fidelity unpickles the file, so its hash is checked first, and that it holds tensors alone.
    """
    if path is None:
        return None
    file = lineage.main_checkout() / path
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"evaluate.inception_weights: {file}: cannot be read ({error.strerror})") from None
    if not found.startswith(INCEPTION_SHA256):
        raise InputError(
            f"evaluate.inception_weights: {file}: found a file whose sha256 begins with {found[:8]}, expected "
            f"{INCEPTION_SHA256}, weights-inception-2015-12-05-{INCEPTION_SHA256}.pth of torch-fidelity's releases"
        )
    try:
        torch.load(file, weights_only=True)
    except UnpicklingError:
        raise InputError(f"evaluate.inception_weights: {file}: holds more than tensors, expected weights") from None
    return Inception(file)
