"""What else might make better pictures? Changes of the networks and of training that params.yaml has no word for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.vae.networks import VAE

DECAY = 0.999  # of averaged weights, per step


def nothing(vae: VAE) -> None:
    pass


@dataclass(frozen=True)
class Variant:
    """What differs from params.yaml, then in the network as it was built, then whether its weights are averaged."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    rebuild: Callable[[VAE], None] = nothing
    averaged: bool = False


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + F.gelu(self.convolution(features))


def with_relu(vae: VAE) -> None:
    for network in (vae.encoder, vae.decoder):
        assert isinstance(network, nn.Sequential)
        for position, layer in enumerate(network):
            if isinstance(layer, nn.GELU):
                network[position] = nn.ReLU()


def with_batch_norm(vae: VAE) -> None:
    insert(vae, nn.BatchNorm2d, offset=0)


def with_residual_blocks(vae: VAE) -> None:
    insert(vae, Residual, offset=1)


def insert(vae: VAE, layer: Callable[[int], nn.Module], offset: int) -> None:
    """A layer of as many channels before (offset 0) or after (1) each activation of a convolution."""
    for network in (vae.encoder, vae.decoder):
        assert isinstance(network, nn.Sequential)
        for position in reversed(range(1, len(network))):
            before = network[position - 1]
            if isinstance(network[position], nn.GELU) and isinstance(before, nn.Conv2d | nn.ConvTranspose2d):
                network.insert(position + offset, layer(before.out_channels).to(memory_format=torch.channels_last))


def averaging(vae: VAE) -> AveragedModel:
    """An exponential average of the weights that follows at each `update_parameters(vae)`."""
    return AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
