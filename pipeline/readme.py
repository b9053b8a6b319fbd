"""Which numbers does README show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.command import plain_command
from pipeline.errors import InputError
from pipeline.markdown import table
from pipeline.params import MODELS, Model
from pipeline.records import CELLS, Record
from pipeline.vae.assignment import EPOCHS
from pipeline.vae.estimates import over_draws

README = Path("README.md")
COMPARISONS = storage.REPORTS / "comparisons"  # written by make bench, make better and make peers
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
COMPARED = ("mse", "psnr", "ssim", "rate")
SETS = {
    "reconstructions": "reconstructions",
    "interpolations": "interpolations",
    "samples": "prior samples",
    "drawn": "prior samples, drawn",
    "mixture": "mixture samples",
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
        [label, *(_with_spread(measured[m][key], records[m].intervals.get(f"test/{key}"), form) for m in MODELS)]
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
            _with_spread(measured[model][f"{name}_{key}"], intervals[model].get(f"test/{name}_{key}"), form)
            for key, (_, form) in DISTANCES.items()
        ]
        for name, label in SETS.items()
        for model in MODELS
        if f"{name}_frechet" in measured[model]  # bernoulli has no drawn samples
    ]
    floor = storage.load_json(root / storage.METRICS / "yardstick.json")["floor"]
    spread = {key: (floor[f"{key}_low"], floor[f"{key}_high"]) for key in DISTANCES if f"{key}_low" in floor}
    real = [_with_spread(floor[key], spread.get(key), form) for key, (_, form) in DISTANCES.items()]
    rows.append(["training pictures: the floor", *real])
    return table(["from test pictures", *(label for label, _ in DISTANCES.values())], rows)


def yardstick(root: Path) -> str:
    """How accurate the classifier is, and what damages do to real pictures in its eyes."""
    content = storage.load_json(root / storage.METRICS / "yardstick.json")
    record = Record.load(root / storage.RUNS / "yardstick.json")
    ladders = [
        f"{kind} {strength}: {_number(rung['frechet'], '.2f')}"
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


def likelihoods(root: Path) -> str:
    """Reconstructions and rate under both likelihoods, and how each was trained."""
    content = storage.load_json(root / COMPARISONS / "numbers.json")
    rows = [
        [f"{model}, {name}", *(_number(content["likelihoods"][name][model][key], RESULTS[key][1]) for key in COMPARED)]
        for model in MODELS
        for name in content["likelihoods"]
    ]
    recipes = [f"- {name}: `{' '.join(recipe)}`\n" for name, recipe in content["recipes"].items()]
    header = [f"pictures {content['data_md5'][:8]}", *(RESULTS[key][0] for key in COMPARED)]
    return table(header, rows) + "\nWhat differs from params.yaml:\n\n" + "".join(recipes)


def assignment(root: Path) -> str:
    """The assignment's recipe and ours, by the number that the assignment printed, and the commands behind ours."""
    content = storage.load_json(root / COMPARISONS / "numbers.json")
    settings = " ".join(f"-S {setting}" for setting in content["recipes"]["bernoulli"])
    rows, commands = [], []
    for model in MODELS:
        theirs = over_draws(_over_seeds(root, f"assignment-{model}", model, "assignment_loss"))
        ours = content["likelihoods"]["bernoulli"][model]
        rows.append(
            [
                f"{model}, {EPOCHS[model]} epochs",
                _with_spread(theirs.value, (theirs.low, theirs.high), ".1f"),
                f"{ours['assignment_loss']:.1f} ± {2 * ours['assignment_loss_standard_error']:.1f}",
                f"{theirs.value - ours['assignment_loss']:.1f}",
            ]
        )
        commands.append(f"    dvc exp run {settings} -S train.epochs={EPOCHS[model]} evaluate@{model}\n")
    header = ["test `assignment_loss`, nats per image", "assignment's recipe", "ours", "ours is lower by"]
    return table(header, rows) + "\nOurs:\n\n" + "".join(commands)


def peers(root: Path) -> str:
    """Ours and pythae's, after the same time."""
    content = storage.load_json(root / COMPARISONS / "peers.json")
    rows = [
        [name, f"{model['samples_frechet']:.2f} ± {model['half_interval']:.2f}", f"{model['elbo']:.1f}"]
        for name, model in content["models"].items()
    ]
    found = table([f"pictures {content['data_md5'][:8]}", "Fréchet of prior samples ↓", "elbo ↑"], rows)
    return found + f"\nOurs for {content['epochs']} epochs; pythae {content['pythae']} for as many seconds.\n"


def better(root: Path) -> str:
    """The setting for better pictures against the assignment's recipe, and what was tried on the way."""
    content = storage.load_json(root / COMPARISONS / "better.json")
    ours = Record.load(root / COMPARISONS / "better" / storage.RUNS.name / "evaluate@conv.json")
    theirs = over_draws(_over_seeds(root, "assignment-conv", "conv", "samples_frechet"))
    rows = [
        [
            "the assignment's recipe, conv, prior samples",
            _with_spread(theirs.value, (theirs.low, theirs.high), ".2f"),
            "1",
        ]
    ]
    for made, label in SETS.items():
        value = ours.metrics[key := f"test/{made}_frechet"]
        rows.append([label, _with_spread(value, ours.intervals.get(key), ".2f"), f"{value / theirs.value:.2f}"])
    reached = table(["from test pictures", "Fréchet ↓", "over the assignment's"], rows)
    options = " ".join(f"-S {key}={value}" for key, value in content["setting"].items())
    tried = [
        [
            f"{name}: {_options(row['changes'])}" if row["changes"] else name,
            *(f"{row['distances'][made]['frechet']:.2f}" for made in SETS),
            f"{row['distances']['samples']['density']:.2f}",
            f"{row['elbo']:.0f}",
            f"{row['multiply_adds'] / 1e6:.1f}",
        ]
        for name, row in content["tried"].items()
    ]
    header = [
        *(f"{content['common']['train.epochs']} epochs; Fréchet from validation pictures", *SETS.values()),
        *("density of prior samples", "elbo", "million multiply-adds"),
    ]
    return f"    dvc exp run {options} evaluate@conv\n\n{reached}\n{table(header, tried)}"


def _over_seeds(root: Path, cell: str, model: Model, key: str) -> list[float]:
    """A metric of the study's cells of that name, a value for each seed."""
    cells = sorted((root / CELLS).glob(f"{cell}-[0-9]"))
    return [storage.load_json(cell / storage.METRICS / f"{model}.json")[key] for cell in cells]


def _options(changes: Mapping[str, Any]) -> str:
    return " ".join(f"`{key}={json.dumps(value, separators=(',', ':'))}`" for key, value in changes.items())


def tracking(root: Path) -> str:
    """What MLflow costs."""
    cost = storage.load_json(root / COMPARISONS / "numbers.json")["tracking"]
    return f"Tracking calls took {cost['share']:.1%} of a fully connected training of {cost['epochs']} epochs.\n"


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
}


def _with_spread(value: float, interval: Sequence[float] | None, form: str) -> str:
    """A value with half of the width of its interval, where it has one."""
    if interval is None:
        return _number(value, form)
    return f"{_number(value, form)} ± {_number((interval[1] - interval[0]) / 2, form)}"


def _number(value: float, form: str) -> str:
    return format(int(value) if form.endswith("d") else value, form)


if __name__ == "__main__":
    plain_command(main)
