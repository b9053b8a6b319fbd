"""Does what the assignment said hold? Five claims: measurements with intervals against thresholds fixed before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline import storage
from pipeline.figures import plots
from pipeline.metrics.intervals import Estimate, geometric_mean, mean_correlation, mean_share, over_draws
from pipeline.metrics.paths import rank_correlation
from pipeline.params import MODELS, STUDY_PARAMS, Model, load_yaml
from pipeline.tracking import lineage
from pipeline.tracking.records import CELLS, Record

VERDICTS = storage.REPORTS / "claims.json"
RADIUS, LUMINANCE = storage.FIGURES / "radius.png", storage.FIGURES / "luminance.png"
SEEDS = range(5)
FIGHTS = {  # conv against which cells of fc, and what that makes equal
    "fc": "at equal latent size, epochs and likelihood",
    "fc-longer": "at equal multiply-adds spent (FC trains longer)",
    "fc-narrow": "at equal parameters (FC with fewer hidden units)",
}

Verdict = Literal["holds", "does not hold", "undecided"]
Thresholds = Mapping[str, float]
Metrics = Mapping[str, Sequence[Mapping[str, Any]]]  # what was measured, by cell and then for each seed


def main() -> None:
    """Write reports/claims.json and its figures, and print the verdicts."""
    limits: Thresholds = load_yaml(STUDY_PARAMS)["claims"]
    compared = {"conv": "conv", **dict.fromkeys(FIGHTS, "fc"), **{f"assignment-{model}": model for model in MODELS}}
    measured = {cell: over_seeds(cell, f"{model}.json") for cell, model in compared.items()}
    surveyed: dict[str, list[Path]] = {model: over_seeds(model, f"{model}_survey.json") for model in MODELS}
    surveys = loaded(surveyed)
    claims = all_claims(loaded(measured), surveys, limits)
    shown = [(f"{model}-{seed}", model) for model in MODELS for seed in SEEDS]  # cells that were surveyed
    weights = {cell: CELLS / cell / storage.weights_path(model) for cell, model in shown}
    _, header = storage.load_tensors(weights["fc-0"], ())
    data, used = header["data"], header["parameters"]
    record = Record("claims", {f"claims.{key}": limit for key, limit in limits.items()}, data["name"], data["md5"])
    record.weights_md5 = {cell: storage.md5(path) for cell, path in weights.items()}

    where = f"{data['name']}, kl_weight {used['kl_weight']:g}, {used['train.epochs']} epochs, {len(SEEDS)} seeds"
    text = lineage.figure_text(data["md5"], record.weights_md5, record.parameters, lineage.code_hash("claims"))
    radii = {model: [survey["radius"] for survey in surveys[model]] for model in MODELS}
    storage.save_figure(RADIUS, plots.quality_by_radius(f"Images by radius: {where}", radii), text)
    walks = {model: [survey["luminance"] for survey in surveys[model]] for model in MODELS}
    storage.save_figure(LUMINANCE, plots.luminance_walks(f"Luminance along walks: {where}", walks), text)
    storage.save_json(VERDICTS, {"data": data, "where": where, "claims": [as_json(claim) for claim in claims]})
    read = sorted(path for paths in (*measured.values(), *surveyed.values()) for path in paths)
    record.save([*read, *weights.values()], [VERDICTS, RADIUS, LUMINANCE])
    for claim in claims:
        print(f"{claim.number}. {claim.says} {claim.model}: {claim.verdict}.")


def over_seeds(cell: str, file: str) -> list[Path]:
    """A file of metrics in each of the cells of that name, which differ in seed."""
    return [CELLS / f"{cell}-{seed}" / storage.METRICS / file for seed in SEEDS]


def loaded(files: Mapping[str, Sequence[Path]]) -> Metrics:
    """The contents of JSON files, by the names that these go by."""
    return {name: [storage.load_json(path) for path in paths] for name, paths in files.items()}


@dataclass(frozen=True)
class Part:
    """One measurement that a claim stands on or, if it does not decide, that is shown with it."""

    measure: str  # what the number is
    estimate: Estimate
    holds_if: Literal["below", "above"]  # the threshold
    threshold: float
    decides: bool = True

    @property
    def verdict(self) -> Verdict:
        """Only an interval that lies wholly on one side of the threshold decides."""
        below, above = self.estimate.high < self.threshold, self.estimate.low > self.threshold
        if not (below or above):
            return "undecided"
        return "holds" if below == (self.holds_if == "below") else "does not hold"


@dataclass(frozen=True)
class Claim:
    """What was said, and what was measured of one model."""

    number: int
    says: str
    model: Model
    parts: Sequence[Part]

    @property
    def verdict(self) -> Verdict:
        """Holds when all deciding parts do; one that does not hold is enough against it."""
        verdicts = {part.verdict for part in self.parts if part.decides}
        if verdicts == {"holds"}:
            return "holds"
        return "does not hold" if "does not hold" in verdicts else "undecided"


def all_claims(metrics: Metrics, surveys: Metrics, limits: Thresholds) -> list[Claim]:
    """The assignment's five claims, by model, with what the study measured in its cells."""

    def ratios(above: str, below: str, key: str = "samples_frechet") -> list[float]:
        return [ours[key] / theirs[key] for ours, theirs in zip(metrics[above], metrics[below], strict=True)]

    def gains(above: str, below: str) -> list[float]:
        key = "samples_kernel"
        return [ours[key] - theirs[key] for ours, theirs in zip(metrics[above], metrics[below], strict=True)]

    fights = {fight: ratios("conv", cell) for cell, fight in FIGHTS.items()}
    return [
        architectures(fights, ratios("conv", "fc", "reconstructions_frechet"), gains("conv", "fc"), limits),
        *(centre(model, [survey["radius"] for survey in surveys[model]], limits) for model in MODELS),
        *(brightness(model, [survey["luminance"] for survey in surveys[model]], limits) for model in MODELS),
        *(smoothness(model, [survey["interpolation"] for survey in surveys[model]], limits) for model in MODELS),
        *(
            recipe(model, ratios(model, assignment), gains(model, assignment), limits)
            for model, assignment in ((model, f"assignment-{model}") for model in MODELS)
        ),
    ]


def paired(ratios: Sequence[float]) -> Estimate:
    """The mean of ratios whose two sides belong to one seed."""
    return replace(geometric_mean(ratios), method="paired t on log ratios")


def kernel_part(measure: str, differences: Sequence[float], limits: Thresholds) -> Part:
    """Differences in kernel distance, which is unbiased and may be negative, for each seed; shown, not deciding."""
    return Part(f"kernel distance {measure}", over_draws(differences), "below", limits["no_difference"], decides=False)


def architectures(
    fights: Mapping[str, Sequence[float]],
    reconstructions: Sequence[float],
    kernels: Sequence[float],
    limits: Thresholds,
) -> Claim:
    """A value for each seed: prior samples' Fréchet distance, conv over FC, by fight; the same of reconstructions; the
    kernel distance of prior samples, conv less FC.
    """
    limit = limits["much_more_effective"]
    measure = "Fréchet distance of prior samples, conv over FC"
    parts = [Part(f"{measure}, {name}", paired(values), "below", limit) for name, values in fights.items()]
    same = "the same of reconstructions, at equal latent size, epochs and likelihood"
    parts.append(Part(same, paired(reconstructions), "below", limit, decides=False))
    parts.append(kernel_part("of prior samples, conv less FC, at equal epochs", kernels, limits))
    return Claim(1, "Convolutional layers are much more effective than fully connected ones.", "conv", parts)


def centre(model: Model, curves: Sequence[Sequence[Mapping[str, float]]], limits: Thresholds) -> Claim:
    """Quality by radius of each training, in even steps from 0 to twice the typical shell."""
    near, shell, last = len(curves[0]) // 4, len(curves[0]) // 2, len(curves[0]) - 1

    def ratios(radius: int) -> Estimate:
        return paired([rows[radius]["frechet"] / rows[last]["frechet"] for rows in curves])

    distances = [torch.tensor([row["frechet"] for row in rows]) for rows in curves]
    orders = [rank_correlation(torch.arange(len(row)), row) for row in distances]
    halfway = "Fréchet distance halfway to the typical shell over that at twice the shell"
    nearest = "“the closer the better”: rank correlation of radius and Fréchet distance, the centre included"
    on_shell = "that on the typical shell, where the prior's draws are, over that at twice the shell"
    limit, closer = limits["better_than_extremes"], limits["the_closer_the_better"]
    parts = [
        Part(halfway, ratios(near), "below", limit),
        Part(on_shell, ratios(shell), "below", limit, decides=False),
        Part(nearest, mean_correlation(orders, len(curves[0])), "above", closer, decides=False),
    ]
    measure = "density among real images halfway to the typical shell less that at twice the shell"
    gain = over_draws([rows[near]["density"] - rows[last]["density"] for rows in curves])
    parts.append(Part(measure, gain, "above", limits["no_difference"], decides=False))
    kernels = [rows[near]["kernel"] - rows[last]["kernel"] for rows in curves]
    parts.append(kernel_part("halfway to the typical shell less that at twice the shell", kernels, limits))
    return Claim(2, "Closer to the centre is better than the extremes.", model, parts)


def brightness(model: Model, walks: Sequence[Mapping[str, Any]], limits: Thresholds) -> Claim:
    """Rank correlations of A and luminance in each training.

    A latent axis could as well point the other way, so z = A·1 is one of many equal diagonals z = A·s of signs s.
    """
    limit, steps, count = limits["lighter"], len(walks[0]["ones_luminance"]), len(walks[0]["diagonals"])
    ones, directions = (mean_correlation([walk[key] for walk in walks], steps) for key in ("ones", "direction"))
    shares = [sum(value > limit for value in walk["diagonals"]) / count for walk in walks]
    diagonals = f"share of diagonals z = A·s, random signs s, that get lighter: rank correlation above {limit:g}"
    best = "that correlation along the direction in which posterior means move as images get brighter"
    parts = [
        Part("rank correlation of A and luminance along z = A·1", ones, "above", limit),
        Part(diagonals, mean_share(shares, count), "above", limits["nearly_all"]),
        Part(best, directions, "above", limit, decides=False),
    ]
    return Claim(3, "A=0 is darker, A=1 is lighter.", model, parts)


def smoothness(model: Model, paths: Sequence[Mapping[str, Mapping[str, float]]], limits: Thresholds) -> Claim:
    """Largest steps of each training's paths."""
    lines, arcs = (paired([path[f"{name}_over_pixels"]["value"] for path in paths]) for name in ("linear", "spherical"))
    over_lines = paired([path["spherical"]["value"] / path["linear"]["value"] for path in paths])
    limit = limits["smoother_than_pixels"]
    straight = "largest step in feature space on straight lines between latents, over that of fading pixels"
    parts = [
        Part(straight, lines, "below", limit),
        Part("the same on arcs", arcs, "below", limit, decides=False),
        Part("arcs over straight lines", over_lines, "below", limits["smoother_than_lines"], decides=False),
    ]
    return Claim(4, "Interpolations are smooth.", model, parts)


def recipe(model: Model, ratios: Sequence[float], kernels: Sequence[float], limits: Thresholds) -> Claim:
    """A value for each seed, of prior samples: Fréchet distance, ours over the assignment's; kernel distance, ours less
    the assignment's.
    """
    measure, limit = "Fréchet distance of prior samples, ours over the assignment's", limits["better_recipe"]
    says = "The notebook's recipe, run again on the same images, is worse than ours."
    parts = [Part(measure, paired(ratios), "below", limit)]
    parts.append(kernel_part("of prior samples, ours less the assignment's", kernels, limits))
    return Claim(5, says, model, parts)


def as_json(claim: Claim) -> dict[str, Any]:
    """A claim for programs."""
    parts = [
        {
            "measure": part.measure, "value": part.estimate.value, "interval": [part.estimate.low, part.estimate.high],
            "n": part.estimate.count, "method": part.estimate.method, "holds_if": part.holds_if,
            "threshold": part.threshold, "verdict": part.verdict, "decides": part.decides,
        }
        for part in claim.parts
    ]  # fmt: skip
    return {"verdict": claim.verdict, **vars(claim), "parts": parts}
