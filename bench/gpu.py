"""How fast is a training on a GPU? Beside the notebook's way on the same one, in alternating rounds, in five minutes.

Prints a table. Images are those in data/, else as many as CIFAR-10's, of shapes drawn on the spot.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import torch

from bench.processes import ROOT
from bench.speed import contend, contender, stage, workspace
from pipeline import storage
from pipeline.command import run_command
from pipeline.download import save_splits
from pipeline.errors import InputError
from pipeline.params import MODELS
from pipeline.sources import make_splits
from pipeline.sources.shapes import SHAPE_CLASSES, draw_shapes
from pipeline.study.assignment import BATCH_SIZE
from pipeline.vae.images import generator

ROUNDS = 3
TRAIN, VALIDATION, TEST = 45_000, 5_000, 10_000  # CIFAR-10's
DIFFERENT = 2_000  # shapes, which repeat
STEPS = -(-TRAIN // BATCH_SIZE)  # an epoch; ours with its validation
LONG = 100  # epochs


def main() -> None:
    if not torch.cuda.is_available():
        raise InputError("make bench-gpu: found no GPU that CUDA knows, expected one")
    with workspace(["train.epochs=1"]) as folder:
        images = folder / storage.DATA
        name = prepare_images(images)
        speeds: dict[str, dict[str, list[float]]] = {model: {"notebook": [], "ours": []} for model in MODELS}
        for _round in range(ROUNDS):
            for model, ways in speeds.items():
                for way, found in ways.items():
                    found.append(contend(way, "--model", model, "--data", images, "--steps", STEPS) / TRAIN)
        long = contender("ours", "--model", "conv", "--data", images, "--set", f"train.epochs={LONG}")
        seconds = json.loads(long.lines[-1])["seconds"]
        stage("train conv", folder)
        evaluation = stage("evaluate conv", folder).seconds
    print(f"| {torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {name} | fc | conv |\n| --- | ---: | ---: |")
    ratios = {
        model: [ours / notebook for ours, notebook in zip(of["ours"], of["notebook"], strict=True)]
        for model, of in speeds.items()
    }
    row("ours over the notebook's way", *(spread(ratios[model]) for model in MODELS))
    row(
        f"the notebook's way, epochs of {TRAIN:,} images per second",
        *(spread(speeds[model]["notebook"]) for model in MODELS),
    )
    row("ours, epochs per second, validation included", *(spread(speeds[model]["ours"]) for model in MODELS))
    row(f"ours, {LONG} epochs, seconds", "", f"{seconds:.1f}")
    row("evaluation with its start, seconds", "", f"{evaluation:.1f}")


def prepare_images(folder: Path) -> str:
    """Put both files of images into `folder`; what they are."""
    folder.mkdir(exist_ok=True)
    if all((ROOT / path).exists() for path in storage.IMAGES):
        for path in storage.IMAGES:
            (folder / path.name).symlink_to(ROOT / path)
        _, header = storage.load_tensors(folder / storage.TRAIN_IMAGES.name, ())
        return str(header["name"])
    print("drawing shapes, since there are no images in data/", file=sys.stderr)
    drawn = draw_shapes(DIFFERENT, generator(0, "shapes"))
    train, test = (drawn.take(torch.arange(count) % DIFFERENT) for count in (TRAIN + VALIDATION, TEST))
    splits = make_splits(train, test, VALIDATION, seed=0)
    header = {"name": "shapes", "classes": list(SHAPE_CLASSES)}
    for path, names in zip(storage.IMAGES, (("train", "validation"), ("test",)), strict=True):
        save_splits(folder / path.name, {name: splits[name] for name in names}, header)
    return "shapes"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    run_command(main)
