"""How is a trained network kept? Its weights, with what rebuilds it and what made it in the header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.params import Model
from pipeline.vae.networks import VAE, Architecture, build_vae


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
    arrays = {name: value.cpu().numpy() for name, value in vae.state_dict().items()}
    storage.save_tensors(storage.weights_path(vae.architecture.model), arrays, header)


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
    try:
        sizes = tuple(header["architecture"].pop("sizes"))
        architecture = Architecture(**header["architecture"], sizes=sizes)
        data, parameters = header["data"], header["parameters"]
        vae = build_vae(architecture, seed=0)
        name, md5 = data["name"], data["md5"]
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: its header describes no network ({error!r}); delete it and run dvc repro") from None
    expected = vae.state_dict()
    for key in sorted(expected.keys() | arrays.keys()):
        found = tuple(arrays[key].shape) if key in arrays else None
        wanted = tuple(expected[key].shape) if key in expected else None
        if found != wanted:
            raise InputError(f"{path}: {key}: found shape {found}, expected {wanted}; delete it and run dvc repro")
    vae.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return Trained(architecture.model, vae.to(device).eval(), name, md5, parameters, lineage.md5(path))
