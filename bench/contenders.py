"""How fast does one way of training go? In a process of its own, so that none finds the memory another has warmed up.

Prints a line of JSON: images per second over some steps, or seconds of a whole training and its test loss.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import VisionDataset
from torchvision.transforms import ToTensor

from bench.processes import ROOT
from pipeline import storage
from pipeline.params import MODELS, PARAMS_FILE, Model, Params, changed, load_yaml
from pipeline.study.assessment import assignment_losses
from pipeline.study.assignment import BATCH_SIZE, LATENT_DIM, LEARNING_RATE, NOTEBOOK, AssignmentVAE
from pipeline.vae.device import place, prepare
from pipeline.vae.images import generator
from pipeline.vae.networks import VAE, architecture, build_vae
from pipeline.vae.training import Training, validate

WAYS = ("notebook", "pythae", "ours", "default")  # of training
STANDARD_PRIOR = "prior_components=0"  # N(0, I), the assignment's
# The assignment's likelihood, with the best of the few recipes tried for it in batches of 128.
BERNOULLI = (
    "likelihood=bernoulli", STANDARD_PRIOR,
    "train.learning_rate=0.004", "train.warmup_epochs=0.5", "train.kl_warmup_epochs=0",
)  # fmt: skip
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # ours takes Apple's, too
WARM_UP = 10  # steps that do not count
PEAK_SIDE, PEAK_TIMES = 2048, 20  # of the matrices whose products are the machine's peak


class FinishedError(Exception):
    pass


class Clock:
    """Ends a training after `steps`, by an exception, and knows how many images a second it took."""

    def __init__(self, steps: int) -> None:
        self.steps, self.taken = steps, 0

    def tick(self, *_: object) -> None:
        self.taken += 1
        if self.taken == WARM_UP:
            self.began = now()
        if self.taken == WARM_UP + self.steps:
            self.images_per_second = self.steps * BATCH_SIZE / (now() - self.began)
            raise FinishedError


def now() -> float:
    """Seconds, once all that was asked of a GPU is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Images(VisionDataset):
    """Images one by one, as torchvision's CIFAR10 gives them."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(transform=ToTensor())
        self.data = images.permute(0, 2, 3, 1).numpy()  # [N, 32, 32, 3]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.data[index]))
        return image


def train_like_the_notebook(model: Model, images: Tensor, tick: Callable[[], object]) -> AssignmentVAE:
    """The assignment's loop: data set, ToTensor, loader with its defaults, sigmoid, cross-entropy, loss.item()."""
    loader: DataLoader[Tensor] = DataLoader(Images(images), batch_size=BATCH_SIZE, shuffle=True)
    network = AssignmentVAE(model).to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(NOTEBOOK[model][0]):
        total = 0.0
        for loaded in loader:
            batch = loaded.to(DEVICE)
            optimizer.zero_grad()
            reconstructions, mean, log_var = network(batch, torch.randn(len(batch), LATENT_DIM, device=DEVICE))
            cross_entropy = F.binary_cross_entropy(reconstructions, batch, reduction="sum")
            loss = cross_entropy - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
            loss.backward()
            total += loss.item()
            optimizer.step()
            tick()
    return network


def train_like_pythae(model: Model, images: Tensor, tick: Callable[[], object]) -> None:
    """Its trainer as it comes, but for batches of 128, around layers as large as ours."""
    from pythae.data.datasets import BaseDataset
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    from bench.peers import Peer

    class Ticking(TrainingCallback):
        def on_train_step_end(self, *_: object, **__: object) -> None:
            tick()

    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(output_dir=folder, per_device_train_batch_size=BATCH_SIZE)
        dataset = BaseDataset(images / 255, torch.zeros(len(images)))
        peer = Peer(build_vae(architecture(parameters([STANDARD_PRIOR]), model), 0), with_our_likelihood=False)
        TrainingPipeline(peer, config)(dataset, callbacks=[Ticking()])


def train_like_us(
    model: Model, settings: list[str], train: Tensor, validation: Tensor, tick: Callable[[int], object]
) -> VAE:
    params = parameters(settings)
    device = prepare(params.run.threads)
    vae = build_vae(architecture(params, model), params.seed).to(device)
    placed, held_out = (place(images, device) for images in (train, validation))
    for _ in Training(vae, placed, held_out, params.train, params.kl_weight, params.seed).epochs(tick):
        pass
    return vae


def edited(settings: list[str]) -> dict[str, Any]:
    """The content of params.yaml with some key=value changed."""
    changes = {key: yaml.safe_load(value) for key, value in (setting.split("=", 1) for setting in settings)}
    return changed(load_yaml(ROOT / PARAMS_FILE), changes)


def parameters(settings: list[str]) -> Params:
    return Params.model_validate(edited(settings))


def rate(way: str, model: Model, data: Path, steps: int, settings: list[str]) -> float:
    """Images per second, over some steps of a training."""
    train, validation, _ = images(data)
    clock = Clock(steps)
    try:
        if way == "notebook":
            train_like_the_notebook(model, torch.cat([train, validation]), clock.tick)
        elif way == "pythae":
            train_like_pythae(model, train, clock.tick)
        else:
            train_like_us(model, settings, train, validation, clock.tick)
    except FinishedError:
        return clock.images_per_second
    raise AssertionError(f"{way}: too few images for {steps} steps")


def whole(way: str, model: Model, data: Path, settings: list[str]) -> dict[str, float]:
    """Seconds of a whole training and the test loss that it reaches, -elbo in nats per image."""
    train, validation, test = images(data)
    began = now()
    if way == "notebook":
        network = train_like_the_notebook(model, torch.cat([train, validation]), lambda: None)
        seconds = now() - began
        network.cpu().eval()
        loss = assignment_losses(network, test, seed=0).mean().item()
    else:
        vae = train_like_us(model, settings, train, validation, lambda _: None)
        seconds = now() - began
        loss = -validate(vae, test, 500, generator(0, "evaluation noise"))["validation/elbo"]
    return {"seconds": seconds, "loss": loss}


def peak() -> float:
    """Multiply-adds per second of float32 matrix products, the best of some."""
    left, right = torch.randn(2, PEAK_SIDE, PEAK_SIDE)
    seconds = []
    for _ in range(PEAK_TIMES):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return PEAK_SIDE**3 / min(seconds)


def images(data: Path) -> tuple[Tensor, Tensor, Tensor]:
    arrays = storage.load_tensors(data / storage.TRAIN_IMAGES.name)[0]
    arrays |= storage.load_tensors(data / storage.TEST_IMAGES.name)[0]
    train, validation, test = (torch.from_numpy(arrays[f"{split}_images"]) for split in ("train", "validation", "test"))
    return train, validation, test


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.contenders", description=__doc__)
    parser.add_argument("way", choices=(*WAYS, "peak"))
    parser.add_argument("--model", choices=MODELS, default="fc")
    parser.add_argument("--data", type=Path, default=storage.DATA)
    parser.add_argument("--steps", type=int, help="that are timed; without it a whole training is")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="parameters of ours")
    given = parser.parse_args()
    recipe = list(BERNOULLI) if given.way == "ours" else []
    if given.way == "peak":
        print(json.dumps(peak()))
    elif given.steps:
        print(json.dumps(rate(given.way, given.model, given.data, given.steps, [*recipe, *given.set])))
    else:
        print(json.dumps(whole(given.way, given.model, given.data, [*recipe, *given.set])))


if __name__ == "__main__":
    main()
