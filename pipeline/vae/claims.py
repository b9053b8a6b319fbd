"""Does what the assignment said hold? Each claim is measurements with intervals against thresholds fixed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.vae.estimates import Estimate, over_draws
from pipeline.vae.geometry import rank_correlation

Verdict = Literal["holds", "does not hold", "undecided"]
Thresholds = Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """One measurement that a claim stands on or, if it does not decide, that is shown beside it."""

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
    """What was said, and what was measured."""

    number: int
    says: str
    parts: Sequence[Part]

    @property
    def verdict(self) -> Verdict:
        """Holds when all deciding parts do; one that does not hold is enough against it."""
        verdicts = {part.verdict for part in self.parts if part.decides}
        if verdicts == {"holds"}:
            return "holds"
        return "does not hold" if "does not hold" in verdicts else "undecided"


def architectures(fights: Mapping[str, Sequence[float]], reconstructions: Sequence[float], limits: Thresholds) -> Claim:
    """Ratios conv over FC by fight, a value for each seed: of prior samples' Fréchet distance, of reconstructions'."""
    limit = limits["much_more_effective"]
    parts = [
        Part(f"Fréchet distance of prior samples, conv over FC, {fight}", over_draws(ratios), "below", limit)
        for fight, ratios in fights.items()
    ]
    beside = "the same of reconstructions, at equal latent size, epochs and likelihood"
    parts.append(Part(beside, over_draws(reconstructions), "below", limit, decides=False))
    return Claim(1, "Convolutional layers are much more effective than fully connected ones.", parts)


def centre(curves: Sequence[Sequence[Mapping[str, float]]], limits: Thresholds) -> Claim:
    """Quality by radius of each training, in even steps from 0 to twice the typical shell."""
    near, shell = len(curves[0]) // 4, len(curves[0]) // 2
    frechet = [[row["frechet"] for row in rows] for rows in curves]
    confidence = [[row["confidence"] for row in rows] for rows in curves]
    density = [[row["density"] for row in rows] for rows in curves]
    orders = [rank_correlation(torch.arange(len(row)), torch.tensor(row)) for row in frechet]
    extremes = limits["better_than_extremes"]
    return Claim(
        2,
        "Closer to the centre is better than the extremes.",
        [
            Part(
                "Fréchet distance halfway to the typical shell over that at twice the shell",
                *(over_draws([row[near] / row[-1] for row in frechet]), "below", extremes),
            ),
            Part(
                "that on the typical shell, where the prior's draws are, over that at twice the shell",
                *(over_draws([row[shell] / row[-1] for row in frechet]), "below", extremes, False),
            ),
            Part(
                "“the closer the better”: rank correlation of radius and Fréchet distance, the centre included",
                *(over_draws(orders), "above", limits["the_closer_the_better"], False),
            ),
            Part(
                "density of pictures among real ones halfway to the typical shell less that at twice the shell",
                *(over_draws([row[near] - row[-1] for row in density]), "above", limits["no_difference"], False),
            ),
            Part(
                "classifier's confidence halfway to the typical shell less that at twice the shell",
                *(over_draws([row[near] - row[-1] for row in confidence]), "above", limits["no_difference"], False),
            ),
        ],
    )


def brightness(walks: Sequence[Mapping[str, Any]], limits: Thresholds) -> Claim:
    """Rank correlations of A and luminance in each training.

    A latent axis could as well point the other way, so z = A·1 is one of many equal diagonals z = A·s of signs s.
    """
    limit = limits["lighter"]
    shares = [sum(value > limit for value in walk["diagonals"]) / len(walk["diagonals"]) for walk in walks]
    return Claim(
        3,
        "A=0 is darker, A=1 is lighter.",
        [
            Part(
                "rank correlation of A and luminance along z = A·1",
                *(over_draws([walk["ones"] for walk in walks]), "above", limit),
            ),
            Part(
                f"share of diagonals z = A·s, random signs s, that get lighter: rank correlation above {limit:g}",
                *(over_draws(shares), "above", limits["nearly_all"]),
            ),
            Part(
                "that correlation along the direction of posterior means that explains luminance best",
                *(over_draws([walk["direction"] for walk in walks]), "above", limit, False),
            ),
        ],
    )


def smoothness(paths: Sequence[Mapping[str, Mapping[str, float]]], limits: Thresholds) -> Claim:
    """Largest steps of each training's paths."""
    limit = limits["smoother_than_pixels"]
    arcs = [path["spherical"]["value"] / path["linear"]["value"] for path in paths]
    return Claim(
        4,
        "Interpolations are smooth.",
        [
            Part(
                "largest step in feature space on straight lines between latents, over that of fading pixels",
                *(over_draws([path["linear_over_pixels"]["value"] for path in paths]), "below", limit),
            ),
            Part(
                "the same on arcs",
                *(over_draws([path["spherical_over_pixels"]["value"] for path in paths]), "below", limit, False),
            ),
            Part("arcs over straight lines", over_draws(arcs), "below", limits["smoother_than_lines"], False),
        ],
    )


def recipe(ratios: Mapping[str, Sequence[float]], limits: Thresholds) -> Claim:
    """Fréchet distances of prior samples, ours over the assignment's, by model and a value for each seed."""
    return Claim(
        5,
        "The notebook's recipe, run again on the same pictures, is worse than ours.",
        [
            Part(
                f"Fréchet distance of prior samples, ours over the assignment's, {model}",
                *(over_draws(values), "below", limits["better_recipe"]),
            )
            for model, values in ratios.items()
        ],
    )
