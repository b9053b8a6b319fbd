"""What did the study find, in words? reports/README.md, and the tables of results that README and the page share."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


PAGE = storage.REPORTS / "README.md"
CLAIMS, THEORY = storage.REPORTS / "claims.json", storage.REPORTS / "theory.json"
TEMPLATES = Path(__file__).parent / "templates"
# What the tables of theory show: column, key of a training's numbers, form.
KL_COLUMNS = (
    ("rate", "rate", ".1f"), ("distortion", "distortion", ".0f"), ("elbo", "elbo", ".0f"),
    ("reconstructions", "reconstructions_frechet", ".2f"), ("prior samples", "prior_frechet", ".2f"),
    ("mixture samples", "mixture_frechet", ".2f"), ("active units", "active_units", ".0f"),
)  # fmt: skip
SMOOTHNESS_COLUMNS = (
    ("largest step", "largest_step", ".3f"), ("step of length 1", "unit_step", ".3f"),
    ("plausible between", "plausible_between", ".2f"), ("plausible ends", "plausible_ends", ".2f"),
)  # fmt: skip
SPACE_ROWS = (
    ("mean squared error of reconstructions", "mse", ".5f"),
    ("Fréchet distance of reconstructions", "reconstructions_frechet", ".2f"),
    ("of samples from N(0, I)", "prior_frechet", ".2f"),
    ("of samples from a fitted Gaussian", "gaussian_frechet", ".2f"),
    ("of samples from a fitted mixture", "mixture_frechet", ".2f"),
    ("share of N(0, I) away from encoded training pictures", "prior_outside", ".3f"),
    ("deviation of encoded pictures in a dimension", "code_deviation", ".2f"),
)
ESTIMATOR_COLUMNS = (
    ("relative variance before", "variance_before", ".3g"), ("after training", "variance_after", ".3g"),
    ("validation elbo, nats", "validation/elbo", ".0f"), ("rate, nats", "validation/rate", ".1f"),
)  # fmt: skip
ESTIMATORS = {
    "reparameterized": "reparameterized",
    "leave_one_out": "score function, leave-one-out baseline",
    "score_function": "score function",
}
KNOWN_SIZES = (1, 4, 16, 64, 256)  # of which the table tells

Columns = Sequence[tuple[str, str, str]]
Row = Mapping[str, Any]


def main() -> None:
    """Write reports/README.md."""
    claims, theory = storage.load_json(CLAIMS), storage.load_json(THEORY)
    with storage.replacing(PAGE) as partial:
        partial.write_text(render_report(claims, theory), encoding="utf-8")
    record = Record("report", {}, theory["data"]["name"], theory["data"]["md5"])
    record.save([CLAIMS, THEORY], [PAGE])


def render_report(claims: Mapping[str, Any], theory: Mapping[str, Any]) -> str:
    """The text of reports/README.md, from claims.json and theory.json."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["mean"] = lambda estimate, form: number(estimate["value"], form)
    weights = {f"{row['kl_weight']:g}": row for row in theory["sweep"]}
    by_weight = {f"{weight} ({row['trainings']})": row for weight, row in weights.items()}
    spaces = [theory["autoencoder"], weights["1"]]
    known = {str(row["latent_dim"]): row for row in theory["known_model"] if row["latent_dim"] in KNOWN_SIZES}
    estimators = {label: theory["estimators"][name] for name, label in ESTIMATORS.items()}
    verdicts = [[f"{claim['number']}. {claim['says']}", claim["verdict"]] for claim in claims["claims"]]
    return environment.get_template("report.md.j2").render(
        claims=claims,
        verdicts=table(["claim", "verdict"], verdicts),
        parts={claim["number"]: parts(claim) for claim in claims["claims"]},
        theory=theory,
        weights=weights,
        kl_table=means("kl_weight (trainings)", by_weight, KL_COLUMNS),
        smoothness_table=means("kl_weight (trainings)", by_weight, SMOOTHNESS_COLUMNS),
        space_table=table(
            ["", "autoencoder", "VAE, kl_weight 1"],
            [[label, *(shown(space[key], form) for space in spaces)] for label, key, form in SPACE_ROWS],
        ),
        estimator_table=means("estimator", estimators, ESTIMATOR_COLUMNS),
        known_table=means("latent dimensions", known, [(label, name, ".3g") for name, label in ESTIMATORS.items()]),
        gradients_rate=theory["learning_rate"],
        by=lambda key: sorted(weights, key=lambda weight: weights[weight][key]["value"]),
    )


def parts(claim: Mapping[str, Any]) -> str:
    """The measurements of a claim."""
    rows = [
        [
            part["measure"] if part["decides"] else f"*{part['measure']}*",
            f"{part['value']:.3f}",
            "{:.3f} to {:.3f}".format(*part["interval"]),
            f"{part['holds_if']} {part['threshold']:g}",
            part["verdict"],
        ]
        for part in claim["parts"]
    ]
    return table(["measure", "mean", "95% interval", "holds if", "so it"], rows)


def means(corner: str, rows: Mapping[str, Row], columns: Columns) -> str:
    """A table of rows by their labels; a column is its label, the key of its estimates, and their form."""
    cells = [[label, *(shown(row[key], form) for _, key, form in columns)] for label, row in rows.items()]
    return table([corner, *(label for label, _, _ in columns)], cells)


def shown(estimate: Mapping[str, Any], form: str) -> str:
    """A mean, with its 95% interval where there are several trainings."""
    value, interval = estimate["value"], estimate["interval"]
    if interval is None:
        return number(value, form)
    return f"{number(value, form)} ({number(interval[0], form)} to {number(interval[1], form)})"
