"""Which features tell images apart? A small residual classifier; the distances between sets of images use them."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.params import Yardstick
from pipeline.vae.device import has_bfloat16
from pipeline.vae.images import CHANNELS, batches, generator, to_float

FEATURES = 128
SHIFT = 4  # training images move by up to so many pixels
LABEL_SMOOTHING = 0.1
MOMENTUM = (0.85, 0.95)  # at the highest and at the lowest learning rates

Featurize = Callable[[Tensor], Tensor]  # features [N, D] of uint8 images [N, 3, 32, 32]


class Classifier(nn.Module):
    """Images [B, 3, 32, 32] in 0..1 to logits of the classes; `features` are what its last layer sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(CHANNELS, 32, stride=1),
            *_convolution(32, 64, stride=2),
            Residual(64),
            *_convolution(64, 128, stride=2),
            Residual(128),
            *_convolution(128, FEATURES, stride=2),
            Residual(FEATURES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features of images [B, 3, 32, 32] in 0..1: [B, FEATURES], none negative."""
        features: Tensor = self.body((4 * images - 2).contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, 32, 32] in 0..1."""
        logits: Tensor = self.head(self.features(images))
        return logits


class Residual(nn.Module):
    """Two convolutions around which the input goes (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(channels, channels, stride=1))
        self.second = nn.Sequential(*_convolution(channels, channels, stride=1)[:-1])

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, channels, H, W] of the same shape."""
        return F.relu(maps + self.second(self.first(maps)))


def build_classifier(classes: int, seed: int) -> Classifier:
    """Initial weights depend on `seed` alone; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(classes).to(memory_format=torch.channels_last)


def restore_classifier(state: Mapping[str, Tensor], classes: Sequence[str], device: torch.device) -> Classifier:
    """The classifier with the weights `state`, by name; InputError when they are those of another network."""
    classifier = build_classifier(len(classes), seed=0)
    expected = {name: value.shape for name, value in classifier.state_dict().items() if value.is_floating_point()}
    if wrong := expected.items() ^ {name: value.shape for name, value in state.items()}.items():
        raise InputError(f"models/yardstick: {min(wrong)[0]} does not fit the yardstick; git checkout models/yardstick")
    classifier.load_state_dict(state, strict=False)  # without what counts batches
    return classifier.to(device).eval()


def fit_classifier(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    settings: Yardstick,
    seed: int,
    on_batch: Callable[[int], object] = lambda images: None,
) -> None:
    """Train in place on uint8 images [N, 3, 32, 32] with int64 labels [N], all on one device.

    Nesterov's momentum, learning rate and momentum in one cycle (Smith & Topin 2018), mirrored and shifted images,
    smoothed labels, matrix products in bfloat16 where the device has it. `on_batch` is told the number of images after
    each step.
    """
    steps = max(settings.epochs * math.ceil(len(images) / settings.batch_size), 10)  # fewer cannot be split
    rate, (least, most) = settings.learning_rate, MOMENTUM
    optimizer = torch.optim.SGD(
        classifier.parameters(), rate, momentum=most, weight_decay=settings.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=0.2, base_momentum=least, max_momentum=most
    )
    rng = generator(seed, "yardstick")
    classifier.train()
    for _ in range(settings.epochs):
        for indices in torch.randperm(len(images), generator=rng).split(settings.batch_size):
            chosen = indices.to(images.device)
            augmented = _mirrored_and_shifted(to_float(images[chosen]), rng)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=has_bfloat16(images.device)):
                logits = classifier(augmented)
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            on_batch(len(indices))


@torch.no_grad()
def features_of(classifier: Classifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """Features of uint8 images [N, 3, 32, 32], float32 [N, FEATURES] on the CPU."""
    classifier.eval()
    device = next(classifier.parameters()).device
    return torch.cat([classifier.features(batch.to(device)).cpu() for batch in batches(images, batch_size)])


@torch.no_grad()
def logits_of(classifier: Classifier, features: Tensor) -> Tensor:
    """Logits [N, classes] that belong to features [N, FEATURES], on the CPU."""
    logits: Tensor = classifier.head(features.to(classifier.head.weight.device))
    return logits.cpu()


def _convolution(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]


def _mirrored_and_shifted(images: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the images mirrored left to right, each moved on its own, what is uncovered black; the same size."""
    count, _, height, width = images.shape
    mirrored = (torch.rand(count, generator=rng) < 0.5).to(images.device)
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    rows, columns = torch.randint(2 * SHIFT + 1, (2, count), generator=rng).to(images.device)
    padded = F.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))
    parts = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, 3, rows, columns, 32, 32], a view
    return parts[torch.arange(count, device=images.device), :, rows, columns]
