"""Are the features those of the published network, however images are batched?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.metrics import features
from pipeline.metrics.features import BLOCKS, EPSILON, FEATURES, HALVING, EfficientNetLite0
from pipeline.storage.weights import load_feature_network
from pipeline.vae.images import to_float


def plainly(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network as its paper's code has it: batch normalisation for itself, TensorFlow's padding for each size."""

    def convolved(maps: Tensor, name: str, normalization: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        side, size = maps.shape[-1], weight.shape[-1]
        padding = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = padding // 2, padding - padding // 2
        padded = F.pad(maps, (before, after, before, after))
        maps = F.conv2d(padded, weight, stride=stride, groups=maps.shape[1] // weight.shape[1])
        mean, variance, scale, shift = (
            state[f"{normalization}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(maps, mean, variance, scale, shift, eps=EPSILON)

    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    maps = F.relu6(convolved((images - mean) / std, "_conv_stem", "_bn0", 2))
    for number in range(BLOCKS):
        name, found = f"_blocks.{number}.", maps
        if f"{name}_expand_conv.weight" in state:
            found = F.relu6(convolved(found, f"{name}_expand_conv", f"{name}_bn0"))
        found = F.relu6(convolved(found, f"{name}_depthwise_conv", f"{name}_bn1", 2 if number in HALVING else 1))
        found = convolved(found, f"{name}_project_conv", f"{name}_bn2")
        maps = maps + found if maps.shape == found.shape else found
    return F.relu6(convolved(maps, "_conv_head", "_bn1")).mean((2, 3))


def test_features_are_those_of_the_published_network(shapes: Tensor) -> None:
    state = load_feature_network()
    found = EfficientNetLite0(state).featurize(shapes[:20])
    assert found.shape == (20, FEATURES)
    torch.testing.assert_close(found, plainly(state, to_float(shapes[:20])), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_batch_size(shapes: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = EfficientNetLite0(load_feature_network())
    whole = network.featurize(shapes[:50])
    for batch_size in (1, 7):
        monkeypatch.setattr(features, "BATCH_SIZE", batch_size)
        torch.testing.assert_close(network.featurize(shapes[:50]), whole, rtol=1e-4, atol=1e-4)
