"""What did the study find, in words? The assignment's claims with verdicts, and answers to its questions of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import storage
from pipeline.study.markdown import number, table
from pipeline.tracking.records import Record

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
ESTIMATOR_ROWS = (
    ("reparameterized", "reparameterized"),
    ("score function, leave-one-out baseline", "leave_one_out"),
    ("score function", "score_function"),
)
KNOWN_SIZES = (1, 4, 16, 64, 256)  # of which the table tells


def main() -> None:
    claims, theory = storage.load_json(CLAIMS), storage.load_json(THEORY)
    with storage.replacing(PAGE) as partial:
        partial.write_text(render_report(claims, theory), encoding="utf-8")
    record = Record("report", {}, theory["data"]["name"], theory["data"]["md5"])
    record.save([CLAIMS, THEORY], [PAGE])


def render_report(claims: Mapping[str, Any], theory: Mapping[str, Any]) -> str:
    """reports/README.md."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters["mean"] = lambda estimate, form: number(estimate["value"], form)
    return environment.get_template("report.md.j2").render(
        claims=claims,
        verdicts=table(
            ["claim", "verdict"],
            [[f"{claim['number']}. {claim['says']}", claim["verdict"]] for claim in claims["claims"]],
        ),
        parts={claim["number"]: parts(claim) for claim in claims["claims"]},
        theory=theory,
        weights={f"{row['kl_weight']:g}": row for row in theory["sweep"]},
        kl_table=by_weight(theory["sweep"], KL_COLUMNS),
        smoothness_table=by_weight(theory["sweep"], SMOOTHNESS_COLUMNS),
        space_table=spaces(theory),
        estimator_table=estimators(theory["estimators"]),
        known_table=known_model(theory["known_model"]),
        gradients_rate=theory["learning_rate"],
        by=lambda key: [f"{row['kl_weight']:g}" for row in sorted(theory["sweep"], key=lambda row: row[key]["value"])],
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


def by_weight(sweep: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, str]]) -> str:
    header = ["kl_weight (trainings)", *(label for label, _, _ in columns)]
    rows = [
        [f"{row['kl_weight']:g} ({row['trainings']})", *(shown(row[key], form) for _, key, form in columns)]
        for row in sweep
    ]
    return table(header, rows)


def spaces(theory: Mapping[str, Any]) -> str:
    vae = next(row for row in theory["sweep"] if row["kl_weight"] == 1)
    rows = [[label, shown(theory["autoencoder"][key], form), shown(vae[key], form)] for label, key, form in SPACE_ROWS]
    return table(["", "autoencoder", "VAE, kl_weight 1"], rows)


def estimators(found: Mapping[str, Any]) -> str:
    rows = [
        [
            label,
            shown(found[name]["variance_before"], ".3g"),
            shown(found[name]["variance_after"], ".3g"),
            shown(found[name]["validation/elbo"], ".0f"),
            shown(found[name]["validation/rate"], ".1f"),
        ]
        for label, name in ESTIMATOR_ROWS
    ]
    header = ["estimator", "relative variance before", "after training", "validation elbo, nats", "rate, nats"]
    return table(header, rows)


def known_model(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["latent dimensions", *(label for label, _ in ESTIMATOR_ROWS)]
    some = [row for row in rows if row["latent_dim"] in KNOWN_SIZES]
    return table(
        header, [[f"{row['latent_dim']}", *(shown(row[name], ".3g") for _, name in ESTIMATOR_ROWS)] for row in some]
    )


def shown(estimate: Mapping[str, Any], form: str) -> str:
    """A mean, with its 95% interval where there are several trainings."""
    value, interval = estimate["value"], estimate["interval"]
    if interval is None:
        return number(value, form)
    return f"{number(value, form)} ({number(interval[0], form)} to {number(interval[1], form)})"
