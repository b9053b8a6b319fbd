"""How are the numbers of the reports written in Markdown? Tables with intervals, made from reports/."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import storage
from pipeline.params import MODELS, NAMES
from pipeline.tracking.records import Record

RESULTS: Mapping[str, tuple[str, str]] = {
    "elbo": ("elbo, nats per image (higher is better)", ".1f"),
    "rate": ("rate, nats per image", ".1f"),
    "distortion": ("distortion, nats per image", ".1f"),
    "importance_weighted_elbo": ("importance-weighted elbo of some test pictures (higher is better)", ".1f"),
    "bits_per_dim": ("bits per dimension (lower is better)", ".3f"),
    "mse": ("mean squared error of reconstructions, pixels in 0..1", ".5f"),
    "psnr": ("PSNR of reconstructions, dB (higher is better)", ".2f"),
    "ssim": ("SSIM of reconstructions (higher is better)", ".3f"),
    "mutual_information": ("mutual information of pictures and latents, nats", ".2f"),
    "aggregate_divergence": ("divergence of all encoded pictures from the prior, nats", ".1f"),
    "linear_probe_accuracy": ("classes that a linear probe reads from latents (higher is better)", ".1%"),
    "active_units": ("active units of the latent dimensions", "d"),
    "parameters": ("parameters", ",d"),
    "multiply_adds": ("multiply-adds per image, encoder and decoder", ",d"),
}
DISTANCES: Mapping[str, tuple[str, str]] = {
    "frechet": ("Fréchet ↓", ".2f"),
    "kernel": ("kernel ↓", "z.4f"),
    "precision": ("precision ↑", ".2f"),
    "recall": ("recall ↑", ".2f"),
    "density": ("density ↑", ".2f"),
    "coverage": ("coverage ↑", ".2f"),
}
SETS = {
    "reconstructions": "reconstructions",
    "interpolations": "interpolations",
    "samples": "prior samples",
    "drawn": "prior samples, drawn",
    "mixture": "mixture samples",
}

Measured = dict[str, tuple[dict[str, float], Record]]  # by model: metrics, and the record of what measured them


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right of a first column of labels.

    >>> print(table(["model", "elbo"], [["fc", "-3.1"]]), end="")
    | model | elbo |
    | --- | ---: |
    | fc | -3.1 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_spread(value: float, interval: Sequence[float] | None, form: str) -> str:
    """A value with half of the width of its interval, where it has one."""
    if interval is None:
        return number(value, form)
    return f"{number(value, form)} ± {number((interval[1] - interval[0]) / 2, form)}"


def number(value: float, form: str) -> str:
    """A value in a form of `format`; "d" also takes whole floats."""
    return format(int(value) if form.endswith("d") else value, form)


def median(values: Sequence[float], form: str = ".2f") -> str:
    """The median of some rounds and, in parentheses, what they range over."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def results_table(root: Path) -> str:
    """Test metrics of both models, means and halves of their 95% intervals."""
    measured = _measured(root)
    rows = [
        [label, *(_shown(measured[model], key, form) for model in MODELS)]
        for key, (label, form) in RESULTS.items()
        if all(key in values for values, _ in measured.values())
    ]
    trained = [record.trained_with for _, record in measured.values()]
    rows.append(["epochs of training, seed", *(f"{used['train.epochs']}, {used['seed']}" for used in trained)])
    _, record = measured["fc"]
    return table([f"{record.data_name}, pictures {(record.data_md5 or '')[:8]}", *NAMES.values()], rows)


def distances_table(root: Path) -> str:
    """How far each model's images are from test images, and real ones, which are nowhere nearer than the floor."""
    measured = _measured(root)
    rows = [
        [f"{model}, {label}", *(_shown(measured[model], f"{name}_{key}", form) for key, (_, form) in DISTANCES.items())]
        for name, label in SETS.items()
        for model in MODELS
        if f"{name}_frechet" in measured[model][0]  # bernoulli has no drawn samples
    ]
    floor = storage.load_json(root / storage.METRICS / "yardstick.json")["floor"]
    spread = {key: (floor[f"{key}_low"], floor[f"{key}_high"]) for key in DISTANCES if f"{key}_low" in floor}
    real = [with_spread(floor[key], spread.get(key), form) for key, (_, form) in DISTANCES.items()]
    rows.append(["training pictures: the floor", *real])
    return table(["from test pictures", *(label for label, _ in DISTANCES.values())], rows)


def _measured(root: Path) -> Measured:
    return {
        model: (
            storage.load_json(root / storage.METRICS / f"{model}.json"),
            Record.load(root / storage.RUNS / f"evaluate@{model}.json"),
        )
        for model in MODELS
    }


def _shown(measured: tuple[dict[str, float], Record], key: str, form: str) -> str:
    values, record = measured
    return with_spread(values[key], record.intervals.get(f"test/{key}"), form)
