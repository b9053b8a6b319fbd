"""How fast is this laboratory? Trainings side by side, starts, memory, and cost against size, in alternating rounds.

Each measurement is a process of its own, so none finds the memory that another has warmed up. The numbers go to
reports/comparisons/speed.json, README's tables are made from there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from bench.commands import answer_times
from bench.contenders import WAYS, edited, parameters
from bench.many_images import write_images
from bench.overhead import tracking_share
from bench.processes import ROOT, Watched, python
from pipeline import storage
from pipeline.command import run_command
from pipeline.params import MODELS, PARAMS_FILE, Model
from pipeline.tools import tables
from pipeline.tracking.experiments import forget_experiment, run_experiment
from pipeline.tracking.records import Record
from pipeline.vae.networks import architecture, build_vae, multiply_adds

NUMBERS = tables.COMPARISONS / "speed.json"
ROUNDS = 5
STEPS = 50
EIGHTHS = (1, 2, 4, 8)  # of all images
LATENTS = (32, 128, 512)
FAST_EPOCHS: Mapping[Model, int] = {"fc": 2, "conv": 3}  # in which ours is below the notebook's final loss
FIRST_WORK: Mapping[str, str] = {  # of a stage: its first call of this
    "download": "pipeline.sources.folder:decode_image",
    "train fc": "pipeline.vae.training:Training._take_step",
    "train conv": "pipeline.vae.training:Training._take_step",
    "evaluate conv": "pipeline.evaluate:evaluate_images",
    "render": "pipeline.render:decoded_figures",
}
# Says when the first work of a stage would begin, or after its bare imports.
START = """
import sys
from importlib import import_module
from operator import attrgetter
from pkgutil import resolve_name
from pipeline.__main__ import STAGES, run

kind, work, stage, *arguments = sys.argv[1:]

def begin(*_, **__):
    print("here", flush=True)
    sys.exit()

resolve_name(f"pipeline.{STAGES[stage].function}")
if kind == "imports":
    begin()
module, _, path = work.partition(":")
owner, _, name = path.rpartition(".")
setattr(attrgetter(owner)(import_module(module)) if owner else import_module(module), name, begin)
run(stage, {"model": model for model in arguments})
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="parameters that choose the data")
    overrides: list[str] = parser.parse_args().overrides
    record = Record("speed", {"rounds": ROUNDS, "steps": STEPS, "overrides": overrides}, data_name="")
    with tempfile.TemporaryDirectory() as folder:
        images = prepared_images(overrides, Path(folder))
        _, header = storage.load_tensors(images / storage.TRAIN_IMAGES.name, ())
        record.data_name, record.data_md5 = header["name"], storage.md5(images / storage.TRAIN_IMAGES.name)
        content: dict[str, Any] = {"data_md5": record.data_md5, "machine": machine(), "pythae": version("pythae")}
        for name, measure in MEASURES.items():
            content[name] = measure(images, overrides)
            print(f"{name}: {json.dumps(content[name])}", flush=True)
    storage.save_json(NUMBERS, content)
    record.environment = {"threads": str(torch.get_num_threads())}
    record.save([], [NUMBERS])
    tables.main()


def prepared_images(overrides: list[str], folder: Path) -> Path:
    """`folder`, with the files that the stage download makes of the data that `overrides` choose."""
    revision = run_experiment("bench-data", overrides, ["download"])
    for path in storage.IMAGES:
        get = ["dvc", "get", "--quiet", ".", str(path), "--rev", revision, "--out", str(folder / path.name)]
        subprocess.run(get, check=True)
    forget_experiment("bench-data")
    return folder


def machine() -> dict[str, Any]:
    names = [row.split(":")[1].strip() for row in _lines(Path("/proc/cpuinfo")) if row.startswith("model name")]
    return {"cpu": (names or [platform.processor()])[0], "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def training(images: Path, _: list[str]) -> dict[str, Any]:
    """Images per second of each way and model, and the machine's peak: a value for each round."""
    found: dict[str, Any] = {model: {way: [] for way in WAYS} for model in MODELS}
    peaks = []
    for _round in range(ROUNDS):
        for model in MODELS:
            for way in WAYS:
                found[model][way].append(contend(way, "--model", model, "--data", images, "--steps", STEPS))
        peaks.append(contend("peak"))
    return found | {"peak": peaks, "multiply_adds": {model: multiply_adds_of_a_step(model) for model in MODELS}}


def multiply_adds_of_a_step(model: Model) -> int:
    """Per image: forward once and backward twice, to weights and to inputs, of which images are none."""
    vae = build_vae(architecture(parameters([]), model), 0)
    first = next(layer for layer in vae.encoder.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    places = 1 if isinstance(first, nn.Linear) else (32 // 2) ** 2  # where the layer is applied
    return 3 * multiply_adds(vae) - places * first.weight.numel()


def quality(images: Path, _: list[str]) -> dict[str, Any]:
    """Whole trainings, once: the notebook's, and ours with as few epochs as reach its loss."""
    found: dict[str, Any] = {}
    for model, epochs in FAST_EPOCHS.items():
        for way, settings in (("notebook", ()), ("ours", ("--set", f"train.epochs={epochs}"))):
            line = (way, "--model", model, "--data", images, *settings)
            found.setdefault(model, {})[way] = json.loads(contender(*line).lines[-1])
        found[model]["epochs"] = epochs
    return found


def latent_size(images: Path, _: list[str]) -> dict[str, Any]:
    """Images per second of params.yaml by latent size, a value for each round."""
    found: dict[str, Any] = {model: {str(size): [] for size in LATENTS} for model in MODELS}
    for _round in range(ROUNDS):
        for model in MODELS:
            for size in LATENTS:
                line = ("default", "--model", model, "--data", images, "--steps", STEPS, "--set", f"latent_dim={size}")
                found[model][str(size)].append(contend(*line))
    return found


def at_once(images: Path, _: list[str]) -> dict[str, Any]:
    """Images per second that two conv trainings at once make together, by the threads of each."""
    found: dict[str, Any] = {"1": [], "2": []}
    for _round in range(ROUNDS):
        for threads, together in found.items():
            line = ("default", "--model", "conv", "--data", images, "--steps", STEPS, "--set", f"run.threads={threads}")
            with ThreadPoolExecutor() as pool:
                together.append(sum(pool.map(contend, *zip(line, line, strict=True))))
    return found


def data_size(images: Path, overrides: list[str]) -> dict[str, Any]:
    """An epoch on some eighths of all images: microseconds per training image and private memory, in rounds."""
    files = {path.name: storage.load_tensors(images / path.name) for path in storage.IMAGES}
    eighth = len(files[storage.TRAIN_IMAGES.name][0]["train_images"]) // EIGHTHS[-1]
    found: dict[str, Any] = {str(size): {"microseconds": [], "private_bytes": []} for size in EIGHTHS}
    with tempfile.TemporaryDirectory() as folder:
        for size in EIGHTHS:
            for file, (arrays, header) in files.items():
                some = {name: array[: len(array) * size // EIGHTHS[-1]] for name, array in arrays.items()}
                storage.save_tensors(Path(folder, str(size), file), some, header)
        for _round in range(ROUNDS):
            for size in EIGHTHS:
                watched = contender("default", "--data", Path(folder, str(size)), "--set", "train.epochs=1")
                seconds = json.loads(watched.lines[-1])["seconds"]
                found[str(size)]["microseconds"].append(1e6 * seconds / (size * eighth))
                found[str(size)]["private_bytes"].append(watched.private_bytes)
    return found


def stages(images: Path, overrides: list[str]) -> dict[str, Any]:
    """Of each stage seconds and private memory, of a training with one epoch; and from its start to its first work."""
    found: dict[str, Any] = {}
    with workspace([*overrides, "train.epochs=1"]) as folder:
        for name in ("download", "train fc", "train conv", "evaluate fc", "evaluate conv", "render"):
            watched = stage(name, folder)
            found[name] = {"seconds": watched.seconds, "private_bytes": watched.private_bytes}
        for _round in range(ROUNDS):
            for name, work in FIRST_WORK.items():
                for kind in ("imports", "first_work"):
                    started = python(["-c", START, kind, work, *name.split()], folder, own_store(folder))
                    found[name].setdefault(kind, []).append(started.seconds_to_first_line)
    return found


def many_images(images: Path, overrides: list[str]) -> dict[str, Any]:
    """400,000 generated images: prepared, then an epoch of each model; seconds and private memory."""
    found = {}
    with tempfile.TemporaryDirectory() as generated:
        write_images(Path(generated))
        source = ["data.source=folder", "data.name=many", f"data.path={generated}", "data.url=null"]
        with workspace([*source, "train.epochs=1"]) as folder:
            for name in ("download", "train fc", "train conv"):
                watched = stage(name, folder)
                found[name] = {"seconds": watched.seconds, "private_bytes": watched.private_bytes}
    return found


def tracking(images: Path, _: list[str]) -> dict[str, Any]:
    return tracking_share(images)


def demo(images: Path, _: list[str]) -> dict[str, float]:
    return {"seconds": python(["-m", "pipeline", "demo"]).seconds}


def commands(images: Path, _: list[str]) -> dict[str, list[float]]:
    return answer_times()


MEASURES: Mapping[str, Callable[[Path, list[str]], dict[str, Any]]] = {  # by their keys in speed.json
    "training": training,
    "quality": quality,
    "latent_size": latent_size,
    "at_once": at_once,
    "data_size": data_size,
    "stages": stages,
    "many_images": many_images,
    "tracking": tracking,
    "demo": demo,
    "commands": commands,
}


def contender(*arguments: object) -> Watched:
    return python(["-m", "bench.contenders", *arguments])


def contend(*arguments: object) -> float:
    """Images per second, or of the peak multiply-adds per second."""
    return float(contender(*arguments).lines[-1])


def stage(name: str, folder: Path) -> Watched:
    return python(["-m", "pipeline", *name.split()], folder, own_store(folder))


def own_store(folder: Path) -> dict[str, str]:
    return {"DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


@contextlib.contextmanager
def workspace(settings: list[str]) -> Iterator[Path]:
    """A folder with params.yaml, some of it changed, where stages run as in a checkout."""
    content = edited(settings)
    if path := content["data"]["path"]:
        content["data"]["path"] = str(ROOT / path)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, PARAMS_FILE).write_text(yaml.safe_dump(content), encoding="utf-8")
        yield Path(folder)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    run_command(main)
