"""Which numbers does README show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.command import plain_command
from pipeline.params import MODELS
from pipeline.records import Record

README = Path("README.md")
COMPARISONS = storage.REPORTS / "comparisons"  # written by make bench
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
    "samples_sliced_wasserstein": ("sliced Wasserstein distance of prior samples (lower is better)", ".1f"),
    "mutual_information": ("mutual information of pictures and latents, nats", ".2f"),
    "aggregate_divergence": ("divergence of all encoded pictures from the prior, nats", ".1f"),
    "active_units": ("active units of the latent dimensions", "d"),
    "parameters": ("parameters", ",d"),
    "multiply_adds": ("multiply-adds per image, encoder and decoder", ",d"),
}
COMPARED = ("mse", "psnr", "ssim", "samples_sliced_wasserstein", "rate")


def main() -> None:
    """Fill README's tables in anew."""
    with storage.replacing(README) as partial:
        partial.write_text(with_tables(README.read_text(encoding="utf-8"), Path()), encoding="utf-8")


def with_tables(text: str, root: Path) -> str:
    """`text` with each marked table made anew from the reports below `root`."""
    return BLOCK.sub(lambda block: block["start"] + TABLES[block["name"]](root) + block["end"], text)


def results(root: Path) -> str:
    """Test metrics of both models, means and standard errors."""
    measured = {model: storage.load_json(root / storage.METRICS / f"{model}.json") for model in MODELS}
    records = {model: Record.load(root / storage.RUNS / f"evaluate@{model}.json") for model in MODELS}
    rows = [
        [label, *(_with_spread(measured[m][key], records[m].standard_errors.get(f"test/{key}"), form) for m in MODELS)]
        for key, (label, form) in RESULTS.items()
        if all(key in measured[model] for model in MODELS)
    ]
    trained = [f"{records[m].trained_with['train.epochs']}, {records[m].trained_with['seed']}" for m in MODELS]
    rows.append(["epochs of training, seed", *trained])
    name, md5 = records["fc"].data_name, records["fc"].data_md5 or ""
    return _table([f"{name}, pictures {md5[:8]}", "fully connected", "convolutional"], rows)


def likelihoods(root: Path) -> str:
    """Reconstructions and prior samples under both likelihoods, and how each was trained."""
    content = storage.load_json(root / COMPARISONS / "numbers.json")
    rows = [
        [f"{model}, {name}", *(_number(content["likelihoods"][name][model][key], RESULTS[key][1]) for key in COMPARED)]
        for model in MODELS
        for name in content["likelihoods"]
    ]
    recipes = [f"- {name}: `{' '.join(recipe)}`\n" for name, recipe in content["recipes"].items()]
    header = [f"pictures {content['data_md5'][:8]}", *(RESULTS[key][0] for key in COMPARED)]
    return _table(header, rows) + "\nWhat differs from params.yaml:\n\n" + "".join(recipes)


def assignment(root: Path) -> str:
    """The assignment's recipe and ours, by the number that the assignment printed, and the commands behind ours."""
    content = storage.load_json(root / COMPARISONS / "numbers.json")
    compared = content["assignment"]
    rows = [
        [
            f"{model}, {compared[model]['epochs']} epochs",
            f"{compared[model]['assignment']:.1f}",
            f"{compared[model]['ours']:.1f} ± {compared[model]['ours_standard_error']:.1f}",
            f"{compared[model]['assignment'] - compared[model]['ours']:.1f}",
        ]
        for model in MODELS
    ]
    settings = " ".join(f"-S {setting}" for setting in content["recipes"]["bernoulli"])
    commands = [
        f"    dvc exp run {settings} -S train.epochs={compared[model]['epochs']} evaluate@{model}\n" for model in MODELS
    ]
    header = ["test `assignment_loss`, nats per image", "assignment's recipe", "ours", "ours is lower by"]
    return _table(header, rows) + "\nOurs:\n\n" + "".join(commands)


def tracking(root: Path) -> str:
    """What MLflow costs."""
    cost = storage.load_json(root / COMPARISONS / "numbers.json")["tracking"]
    return f"Tracking calls took {cost['share']:.1%} of a fully connected training of {cost['epochs']} epochs.\n"


TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": results,
    "likelihoods": likelihoods,
    "assignment": assignment,
    "tracking": tracking,
}


def _with_spread(value: float, error: float | None, form: str) -> str:
    return _number(value, form) + (f" ± {_number(error, form)}" if error is not None else "")


def _number(value: float, form: str) -> str:
    return format(int(value) if form.endswith("d") else value, form)


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    plain_command(main)
