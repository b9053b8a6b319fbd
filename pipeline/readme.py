"""Which numbers does README show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline import storage
from pipeline.command import plain_command
from pipeline.comparisons import SETS, assignment, better, costs, likelihoods, peers, speed, tracking
from pipeline.errors import InputError
from pipeline.markdown import number, table, with_spread
from pipeline.params import MODELS
from pipeline.records import Record

README = Path("README.md")
BLOCK = re.compile(r"(?P<start><!-- (?P<name>\w+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)

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


def main() -> None:
    """Fill README's tables in anew."""
    with storage.replacing(README) as partial:
        partial.write_text(with_tables(README.read_text(encoding="utf-8"), Path()), encoding="utf-8")


def with_tables(text: str, root: Path) -> str:
    """`text` with each marked table made anew from the reports below `root`."""
    return BLOCK.sub(lambda block: block["start"] + TABLES[block["name"]](root) + block["end"], text)


def require_known_tables(text: str) -> None:
    """InputError for a marker that no table belongs to."""
    for block in BLOCK.finditer(text):
        if block["name"] not in TABLES:
            raise InputError(f"{README}: found the marker {block['name']}, expected one of {', '.join(TABLES)}")


def results(root: Path) -> str:
    """Test metrics of both models, means and halves of their 95% intervals."""
    measured = {model: storage.load_json(root / storage.METRICS / f"{model}.json") for model in MODELS}
    records = {model: Record.load(root / storage.RUNS / f"evaluate@{model}.json") for model in MODELS}
    rows = [
        [label, *(with_spread(measured[m][key], records[m].intervals.get(f"test/{key}"), form) for m in MODELS)]
        for key, (label, form) in RESULTS.items()
        if all(key in measured[model] for model in MODELS)
    ]
    trained = [f"{records[m].trained_with['train.epochs']}, {records[m].trained_with['seed']}" for m in MODELS]
    rows.append(["epochs of training, seed", *trained])
    name, md5 = records["fc"].data_name, records["fc"].data_md5 or ""
    return table([f"{name}, pictures {md5[:8]}", "fully connected", "convolutional"], rows)


def distances(root: Path) -> str:
    """How far each model's pictures are from test pictures, and real ones, which are nowhere nearer than the floor."""
    measured = {model: storage.load_json(root / storage.METRICS / f"{model}.json") for model in MODELS}
    intervals = {model: Record.load(root / storage.RUNS / f"evaluate@{model}.json").intervals for model in MODELS}
    rows = [
        [f"{model}, {label}"]
        + [
            with_spread(measured[model][f"{name}_{key}"], intervals[model].get(f"test/{name}_{key}"), form)
            for key, (_, form) in DISTANCES.items()
        ]
        for name, label in SETS.items()
        for model in MODELS
        if f"{name}_frechet" in measured[model]  # bernoulli has no drawn samples
    ]
    floor = storage.load_json(root / storage.METRICS / "yardstick.json")["floor"]
    spread = {key: (floor[f"{key}_low"], floor[f"{key}_high"]) for key in DISTANCES if f"{key}_low" in floor}
    real = [with_spread(floor[key], spread.get(key), form) for key, (_, form) in DISTANCES.items()]
    rows.append(["training pictures: the floor", *real])
    return table(["from test pictures", *(label for label, _ in DISTANCES.values())], rows)


def yardstick(root: Path) -> str:
    """How accurate the classifier is, and what damages do to real pictures in its eyes."""
    content = storage.load_json(root / storage.METRICS / "yardstick.json")
    record = Record.load(root / storage.RUNS / "yardstick.json")
    ladders = [
        f"{kind} {strength}: {number(rung['frechet'], '.2f')}"
        for kind in content
        if kind not in ("test_accuracy", "floor")
        for strength, rung in content[kind].items()
    ]
    return (
        f"{content['test_accuracy']:.1%} of the test pictures of {record.data_name} right. "
        f"Fréchet distance of training pictures {content['floor']['frechet']:.2f}, damaged: {'; '.join(ladders)}.\n"
    )


def claims(root: Path) -> str:
    """What the assignment said and whether it holds, with the first measurement that the verdict rests on."""
    rows = []
    for claim in storage.load_json(root / storage.REPORTS / "claims.json"):
        part = next(part for part in claim["parts"] if part["decides"] and part["verdict"] == claim["verdict"])
        low, high = part["interval"]
        measure = f"{part['measure']}: {part['value']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{claim['number']}. {claim['says']}", measure, claim["verdict"]])
    return table(["claim", "what decides, first of all: mean (95% interval)", "verdict"], rows)


TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": results,
    "distances": distances,
    "yardstick": yardstick,
    "claims": claims,
    "likelihoods": likelihoods,
    "assignment": assignment,
    "better": better,
    "peers": peers,
    "tracking": tracking,
    "speed": speed,
    "costs": costs,
}


if __name__ == "__main__":
    plain_command(main)
