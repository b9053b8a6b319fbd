"""Which numbers do README and docs/ show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics import over_draws
from pipeline.params import MODELS, Model
from pipeline.study.assignment import EPOCHS
from pipeline.study.report import RESULTS, SETS, distances_table, median, number, results_table, table, with_spread
from pipeline.tracking.records import CELLS, Record

README = Path("README.md")
COMPARISONS = storage.REPORTS / "comparisons"  # what no stage measures: benchmarks and comparisons with others
BLOCK = re.compile(r"(?P<start><!-- (?P<name>\w+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str] = ()) -> None:
    """Fill in anew the tables of README and docs/."""
    argparse.ArgumentParser(prog="python -m pipeline tables", description=__doc__).parse_args(arguments)
    for page in pages():
        text = with_tables(page.read_text(encoding="utf-8"), Path())
        with storage.replacing(page) as partial:
            partial.write_text(text, encoding="utf-8")


def pages(root: Path = Path()) -> list[Path]:
    """README.md and docs/*.md below `root`."""
    return [root / README, *sorted((root / "docs").glob("*.md"))]


def with_tables(text: str, root: Path) -> str:
    """`text` with each marked table made anew from the reports below `root`; InputError for an unknown marker."""
    require_known_tables(text)
    return BLOCK.sub(lambda block: block["start"] + TABLES[block["name"]](root) + block["end"], text)


def require_known_tables(text: str) -> None:
    """InputError for a marker to which no table belongs."""
    for block in BLOCK.finditer(text):
        if block["name"] not in TABLES:
            raise InputError(f"README or docs/: found the marker {block['name']}, expected one of {', '.join(TABLES)}")


def summary_table(root: Path) -> str:
    """The six numbers that README shows of both models."""
    records = {model: Record.load(root / storage.RUNS / f"evaluate@{model}.json") for model in MODELS}
    measured = {model: _load(root / storage.METRICS / f"{model}.json") for model in MODELS}
    labels = dict(RESULTS)
    labels["samples_frechet"] = ("Fréchet distance of prior samples from test images (lower is better)", ".2f")
    rows = []
    for key in ("elbo", "bits_per_dim", "psnr", "samples_frechet", "parameters", "multiply_adds"):
        label, form = labels[key]
        spread = {model: records[model].intervals.get(f"test/{key}") for model in MODELS}
        rows.append([label, *(with_spread(measured[model][key], spread[model], form) for model in MODELS)])
    trained, name = records["fc"].trained_with, records["fc"].data_name
    header = f"{name}, {trained['train.epochs']} epochs, seed {trained['seed']}"
    return table([header, "fully connected", "convolutional"], rows)


def yardstick_table(root: Path) -> str:
    """How accurate the classifier is, and what damages do to real images in its eyes."""
    content = _load(root / storage.METRICS / "yardstick.json")
    record = Record.load(root / storage.RUNS / "yardstick.json")
    accuracy, floor = content.pop("test_accuracy"), content.pop("floor")
    ladders = [
        f"{kind} {strength}: {rung['frechet']:.2f}"
        for kind, ladder in content.items()
        for strength, rung in ladder.items()
    ]
    return (
        f"{accuracy:.1%} of the test images of {record.data_name} right. Fréchet distance of training images "
        f"{floor['frechet']:.2f}, damaged: {'; '.join(ladders)}.\n"
    )


def claims_table(root: Path) -> str:
    """What the assignment said and whether it holds, with the first measurement that the verdict rests on."""
    rows = []
    for claim in _load(root / storage.REPORTS / "claims.json")["claims"]:
        part = next(part for part in claim["parts"] if part["decides"] and part["verdict"] == claim["verdict"])
        low, high = part["interval"]
        measure = f"{part['measure']}: {part['value']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{claim['number']}. {claim['says']}", measure, claim["verdict"]])
    return table(["claim", "deciding measure: mean (95% interval)", "verdict"], rows)


def likelihoods_table(root: Path) -> str:
    """Reconstructions and rate under both likelihoods, and how each was trained."""
    content = _load(root / COMPARISONS / "numbers.json")
    compared = {key: RESULTS[key] for key in ("mse", "psnr", "ssim", "rate")}
    rows = [
        [f"{model}, {name}", *(number(measured[model][key], form) for key, (_, form) in compared.items())]
        for model in MODELS
        for name, measured in content["likelihoods"].items()
    ]
    recipes = [f"- {name}: `{' '.join(recipe)}`\n" for name, recipe in content["recipes"].items()]
    header = [f"images {content['data_md5'][:8]}", *(label for label, _ in compared.values())]
    return table(header, rows) + "\nWhat differs from params.yaml:\n\n" + "".join(recipes)


def assignment_table(root: Path) -> str:
    """The assignment's recipe and ours, by the number that the assignment printed, and the commands behind ours."""
    content = _load(root / COMPARISONS / "numbers.json")
    settings = " ".join(f"-S {setting}" for setting in content["recipes"]["bernoulli"])
    rows, commands = [], []
    for model in MODELS:
        theirs = over_draws(_over_seeds(root, f"assignment-{model}", model, "assignment_loss"))
        measured = content["likelihoods"]["bernoulli"][model]
        ours, spread = measured["assignment_loss"], 2 * measured["assignment_loss_standard_error"]
        recipe = with_spread(theirs.value, (theirs.low, theirs.high), ".1f")
        name = f"{model}, {EPOCHS[model]} epochs"
        rows.append([name, recipe, f"{ours:.1f} ± {spread:.1f}", f"{theirs.value - ours:.1f}"])
        commands.append(f"    dvc exp run {settings} -S train.epochs={EPOCHS[model]} evaluate@{model}\n")
    header = ["test `assignment_loss`, nats per image", "assignment's recipe", "ours", "ours is lower by"]
    return table(header, rows) + "\nOurs:\n\n" + "".join(commands)


def better_table(root: Path) -> str:
    """The setting for better images against the assignment's recipe, and what was tried on the way."""
    content = _load(root / COMPARISONS / "better.json")
    ours = Record.load(root / COMPARISONS / "better" / storage.RUNS.name / "evaluate@conv.json")
    theirs = over_draws(_over_seeds(root, "assignment-conv", "conv", "samples_frechet"))
    recipe = with_spread(theirs.value, (theirs.low, theirs.high), ".2f")
    rows = [["the assignment's recipe, conv, prior samples", recipe, "1"]]
    for made, label in SETS.items():
        value = ours.metrics[key := f"test/{made}_frechet"]
        rows.append([label, with_spread(value, ours.intervals.get(key), ".2f"), f"{value / theirs.value:.2f}"])
    reached = table(["from test images", "Fréchet ↓", "over the assignment's"], rows)
    options = " ".join(f"-S {key}={value}" for key, value in content["setting"].items())
    tried = []
    for name, row in content["tried"].items():
        settings = " ".join(f"`{key}={json.dumps(value)}`" for key, value in row["changes"].items())
        distances = [f"{row['distances'][made]['frechet']:.2f}" for made in SETS]
        density = f"{row['distances']['samples']['density']:.2f}"
        size = f"{row['multiply_adds'] / 1e6:.1f}"
        tried.append([": ".join(filter(None, [name, settings])), *distances, density, f"{row['elbo']:.0f}", size])
    first = f"{content['common']['train.epochs']} epochs; Fréchet from validation images"
    header = [first, *SETS.values(), "density of prior samples", "elbo", "million multiply-adds"]
    return f"    dvc exp run {options} evaluate@conv\n\n{reached}\n{table(header, tried)}"


def peers_table(root: Path) -> str:
    """Ours and pythae's, after the same time."""
    content = _load(root / COMPARISONS / "peers.json")
    rows = [
        [name, f"{model['samples_frechet']:.2f} ± {model['half_interval']:.2f}", f"{model['elbo']:.1f}"]
        for name, model in content["models"].items()
    ]
    found = table([f"images {content['data_md5'][:8]}", "Fréchet of prior samples ↓", "elbo ↑"], rows)
    return found + f"\nOurs for {content['epochs']} epochs; pythae {content['pythae']} for as many seconds.\n"


def tracking_table(root: Path) -> str:
    """What MLflow costs."""
    cost = _load(root / COMPARISONS / "speed.json")["tracking"]
    return f"Tracking calls took {cost['share']:.1%} of a fully connected training of {cost['epochs']} epochs.\n"


WAYS = {  # of training, as speed.json calls them; images per second
    "notebook": "the notebook's way, images per second",
    "pythae": "pythae's trainer",
    "ours": "ours, with the assignment's likelihood and prior",
    "default": "ours, params.yaml as it is",
}


def speed_table(root: Path) -> str:
    """Trainings side by side: ratios first, each the median of the rounds' and what they range over."""
    content = _load(root / COMPARISONS / "speed.json")
    rates, fast, machine = content["training"], content["quality"], content["machine"]
    work, peak = rates["multiply_adds"], rates["peak"]

    def over(above: str, below: str) -> list[str]:
        pairs = [zip(rates[model][above], rates[model][below], strict=True) for model in MODELS]
        return [median([ours / theirs for ours, theirs in rounds]) for rounds in pairs]

    def of_peak(model: Model) -> str:
        return median([rate * work[model] / most for rate, most in zip(rates[model]["ours"], peak, strict=True)])

    times = [fast[model]["ours"]["seconds"] / fast[model]["notebook"]["seconds"] for model in MODELS]
    rows = [
        ["ours over the notebook's way", *over("ours", "notebook")],
        ["ours over pythae's trainer", *over("ours", "pythae")],
        ["params.yaml as it is over the notebook's way", *over("default", "notebook")],
        ["ours, share of the machine's float32 matrix peak", *map(of_peak, MODELS)],
        ["time to the notebook's final test loss, over the notebook's", *(f"{share:.2f}" for share in times)],
        *([name, *(median(rates[model][way], ",.0f") for model in MODELS)] for way, name in WAYS.items()),
    ]
    reached = [
        f"{model} {fast[model][way]['loss']:.1f} after {fast[model][way]['seconds']:.0f} s ({name})"
        for model in MODELS
        for way, name in (("notebook", "the notebook's"), ("ours", f"ours, {fast[model]['epochs']} epochs"))
    ]
    return (
        table([f"{machine['cpu']}, {machine['threads']} threads", "fully connected", "convolutional"], rows)
        + f"\nMatrix peak: {median([most / 1e9 for most in peak], '.0f')} billion multiply-adds per second. "
        f"Multiply-adds of a step of ours, per image: fc {work['fc'] / 1e6:.1f} million, conv "
        f"{work['conv'] / 1e6:.1f} million. Test loss, nats per image: {', '.join(reached)}.\n"
    )


def costs_table(root: Path) -> str:
    """Time and memory of each stage, and what an epoch costs as images and latents grow."""
    content = _load(root / COMPARISONS / "speed.json")
    costs = {f"`{name}`": cost for name, cost in content["stages"].items()}
    costs |= {f"`{name}`, 400,000 images": cost for name, cost in content["many_pictures"].items()}
    rows = []
    for name, cost in costs.items():
        starts = zip(cost.get("first_work", ()), cost.get("imports", ()), strict=True)
        waited = [work - imported for work, imported in starts]
        first_work = median(waited, ".1f") if waited else ""
        rows.append([name, f"{cost['seconds']:.0f}", first_work, f"{cost['private_bytes'] / 1e6:.0f}"])
    header = ["stage; trainings of one epoch", "seconds", "first work after bare imports, s", "private memory, MB"]
    grown = [
        f"{size}/8: {median(cost['microseconds'], '.0f')} µs, {max(cost['private_bytes']) / 1e6:.0f} MB"
        for size, cost in content["data_size"].items()
    ]
    latents = [f"{model}: {_medians(rates)}" for model, rates in content["latent_size"].items()]
    return (
        table(header, rows) + f"\nAn epoch of fc on a part of the images, per training image: {'; '.join(grown)}.\n"
        f"Images per second by latent size: {'; '.join(latents)}. Two conv trainings at once, together, by threads of "
        f"each: {_medians(content['at_once'])}. The demo took {content['demo']['seconds']:.0f} s.\n"
    )


def _medians(rates: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name}: {median(rounds, ',.0f')}" for name, rounds in rates.items())


def _over_seeds(root: Path, cell: str, model: Model, key: str) -> list[float]:
    """A metric of the study's cells of that name, a value for each seed."""
    cells = sorted((root / CELLS).glob(f"{cell}-[0-9]"))
    return [_load(cell / storage.METRICS / f"{model}.json")[key] for cell in cells]


_load = storage.load_json
TABLES: Mapping[str, Callable[[Path], str]] = {
    "summary": summary_table,
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
