"""Which numbers do README and docs/ show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.intervals import over_draws
from pipeline.params import MODELS, Model
from pipeline.study.assignment import EPOCHS
from pipeline.study.markdown import SETS, distances_table, median, number, results_table, table, with_spread
from pipeline.tracking.records import CELLS, Record

README = Path("README.md")
BLOCK = re.compile(r"(?P<start><!-- (?P<name>\w+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str] = ()) -> None:
    """Fill in anew the tables of README and docs/."""
    argparse.ArgumentParser(prog="python -m pipeline tables", description=__doc__).parse_args(arguments)
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


def yardstick_table(root: Path) -> str:
    """How accurate the classifier is, and what damages do to real images in its eyes."""
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


def claims_table(root: Path) -> str:
    """What the assignment said and whether it holds, with the first measurement that the verdict rests on."""
    rows = []
    for claim in storage.load_json(root / storage.REPORTS / "claims.json")["claims"]:
        part = next(part for part in claim["parts"] if part["decides"] and part["verdict"] == claim["verdict"])
        low, high = part["interval"]
        measure = f"{part['measure']}: {part['value']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{claim['number']}. {claim['says']}", measure, claim["verdict"]])
    return table(["claim", "what decides, first of all: mean (95% interval)", "verdict"], rows)


COMPARISONS = storage.REPORTS / "comparisons"  # written by make compare, make better, make peers and make bench
COMPARED: Mapping[str, tuple[str, str]] = {
    "mse": ("mean squared error of reconstructions, pixels in 0..1", ".5f"),
    "psnr": ("PSNR of reconstructions, dB (higher is better)", ".2f"),
    "ssim": ("SSIM of reconstructions (higher is better)", ".3f"),
    "rate": ("rate, nats per image", ".1f"),
}
WAYS = {  # of training, as speed.json calls them; images per second
    "notebook": "the notebook's way, pictures per second",
    "pythae": "pythae's trainer",
    "ours": "ours, with the assignment's likelihood and prior",
    "default": "ours, params.yaml as it is",
}


def likelihoods_table(root: Path) -> str:
    """Reconstructions and rate under both likelihoods, and how each was trained."""
    content = storage.load_json(root / COMPARISONS / "numbers.json")
    rows = [
        [f"{model}, {name}", *(number(content["likelihoods"][name][model][key], COMPARED[key][1]) for key in COMPARED)]
        for model in MODELS
        for name in content["likelihoods"]
    ]
    recipes = [f"- {name}: `{' '.join(recipe)}`\n" for name, recipe in content["recipes"].items()]
    header = [f"pictures {content['data_md5'][:8]}", *(COMPARED[key][0] for key in COMPARED)]
    return table(header, rows) + "\nWhat differs from params.yaml:\n\n" + "".join(recipes)


def assignment_table(root: Path) -> str:
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
                with_spread(theirs.value, (theirs.low, theirs.high), ".1f"),
                f"{ours['assignment_loss']:.1f} ± {2 * ours['assignment_loss_standard_error']:.1f}",
                f"{theirs.value - ours['assignment_loss']:.1f}",
            ]
        )
        commands.append(f"    dvc exp run {settings} -S train.epochs={EPOCHS[model]} evaluate@{model}\n")
    header = ["test `assignment_loss`, nats per image", "assignment's recipe", "ours", "ours is lower by"]
    return table(header, rows) + "\nOurs:\n\n" + "".join(commands)


def peers_table(root: Path) -> str:
    """Ours and pythae's, after the same time."""
    content = storage.load_json(root / COMPARISONS / "peers.json")
    rows = [
        [name, f"{model['samples_frechet']:.2f} ± {model['half_interval']:.2f}", f"{model['elbo']:.1f}"]
        for name, model in content["models"].items()
    ]
    found = table([f"pictures {content['data_md5'][:8]}", "Fréchet of prior samples ↓", "elbo ↑"], rows)
    return found + f"\nOurs for {content['epochs']} epochs; pythae {content['pythae']} for as many seconds.\n"


def better_table(root: Path) -> str:
    """The setting for better images against the assignment's recipe, and what was tried on the way."""
    content = storage.load_json(root / COMPARISONS / "better.json")
    ours = Record.load(root / COMPARISONS / "better" / storage.RUNS.name / "evaluate@conv.json")
    theirs = over_draws(_over_seeds(root, "assignment-conv", "conv", "samples_frechet"))
    rows = [
        [
            "the assignment's recipe, conv, prior samples",
            with_spread(theirs.value, (theirs.low, theirs.high), ".2f"),
            "1",
        ]
    ]
    for made, label in SETS.items():
        value = ours.metrics[key := f"test/{made}_frechet"]
        rows.append([label, with_spread(value, ours.intervals.get(key), ".2f"), f"{value / theirs.value:.2f}"])
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


def tracking_table(root: Path) -> str:
    """What MLflow costs."""
    cost = storage.load_json(root / COMPARISONS / "speed.json")["tracking"]
    return f"Tracking calls took {cost['share']:.1%} of a fully connected training of {cost['epochs']} epochs.\n"


def speed_table(root: Path) -> str:
    """Trainings side by side: ratios first, each the median of the rounds' and what they range over."""
    content = storage.load_json(root / COMPARISONS / "speed.json")
    rates, fast = content["training"], content["quality"]
    work = rates["multiply_adds"]

    def over(model: Model, above: str, below: str) -> str:
        return median([ours / theirs for ours, theirs in zip(rates[model][above], rates[model][below], strict=True)])

    def share(model: Model) -> str:
        rounds = zip(rates[model]["ours"], rates["peak"], strict=True)
        return median([rate * work[model] / peak for rate, peak in rounds])

    rows = [
        ["ours over the notebook's way", *(over(model, "ours", "notebook") for model in MODELS)],
        ["ours over pythae's trainer", *(over(model, "ours", "pythae") for model in MODELS)],
        ["params.yaml as it is over the notebook's way", *(over(model, "default", "notebook") for model in MODELS)],
        ["ours, share of the machine's float32 matrix peak", *(share(model) for model in MODELS)],
        [
            "time to the notebook's final test loss, over the notebook's",
            *(f"{fast[model]['ours']['seconds'] / fast[model]['notebook']['seconds']:.2f}" for model in MODELS),
        ],
        *([name, *(median(rates[model][way], ",.0f") for model in MODELS)] for way, name in WAYS.items()),
    ]
    machine, peak = content["machine"], median([peak / 1e9 for peak in rates["peak"]], ".0f")
    reached = [
        f"{model} {fast[model][way]['loss']:.1f} after {fast[model][way]['seconds']:.0f} s ({name})"
        for model in MODELS
        for way, name in (("notebook", "the notebook's"), ("ours", f"ours, {fast[model]['epochs']} epochs"))
    ]
    return (
        table([f"{machine['cpu']}, {machine['threads']} threads", "fully connected", "convolutional"], rows)
        + f"\nMatrix peak: {peak} billion multiply-adds per second. Multiply-adds of a step of ours, per picture: fc "
        f"{work['fc'] / 1e6:.1f} million, conv {work['conv'] / 1e6:.1f} million. Test loss, nats per image: "
        f"{', '.join(reached)}.\n"
    )


def costs_table(root: Path) -> str:
    """Time and memory of each stage, and what an epoch costs as images and latents grow."""
    content = storage.load_json(root / COMPARISONS / "speed.json")
    stages, many = content["stages"], content["many_pictures"]
    rows = [
        [f"`{name}`", f"{cost['seconds']:.0f}", _begins_after(cost), _megabytes(cost["private_bytes"])]
        for name, cost in stages.items()
    ]
    rows += [
        [f"`{name}`, 400,000 pictures", f"{cost['seconds']:.0f}", "", _megabytes(cost["private_bytes"])]
        for name, cost in many.items()
    ]
    header = ["stage; trainings of one epoch", "seconds", "first work after bare imports, s", "private memory, MB"]
    grown = "; ".join(
        f"{size}/8: {median(cost['microseconds'], '.0f')} µs, {_megabytes(max(cost['private_bytes']))} MB"
        for size, cost in content["data_size"].items()
    )
    latents = "; ".join(
        f"{model}: "
        + ", ".join(f"{size}: {median(rates, ',.0f')}" for size, rates in content["latent_size"][model].items())
        for model in MODELS
    )
    together = {threads: median(rates, ",.0f") for threads, rates in content["at_once"].items()}
    return (
        table(header, rows) + f"\nAn epoch of fc on a part of the pictures, per training picture: {grown}.\n"
        f"Pictures per second by latent size: {latents}. Two conv trainings at once, together: {together['1']} with a "
        f"thread each, {together['2']} with two each. The demo took {content['demo']['seconds']:.0f} s.\n"
    )


def _begins_after(cost: Mapping[str, Any]) -> str:
    if "imports" not in cost:
        return ""
    pairs = zip(cost["first_work"], cost["imports"], strict=True)
    return median([begins - imported for begins, imported in pairs], ".1f")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f}"


TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": results_table,
    "distances": distances_table,
    "yardstick": yardstick_table,
    "claims": claims_table,
    "likelihoods": likelihoods_table,
    "assignment": assignment_table,
    "better": better_table,
    "peers": peers_table,
    "tracking": tracking_table,
    "speed": speed_table,
    "costs": costs_table,
}
