"""Does each verdict turn when the opposite is measured?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.metrics.intervals import Estimate
from pipeline.params import load_yaml
from pipeline.study.claims import (
    Claim,
    Part,
    all_claims,
    architectures,
    as_json,
    brightness,
    centre,
    recipe,
    smoothness,
)
from tests.fixtures import ROOT

LIMITS = load_yaml(ROOT / "study/params.yaml")["claims"]


def claim_1(ratios: Sequence[float]) -> Claim:
    return architectures({"at equal epochs": [0.5, 0.5, 0.5], "at equal parameters": ratios}, ratios, ratios, LIMITS)


def surveyed(near: float, ones: float, ratio: float) -> dict[str, Any]:
    """Nine radii; the Fréchet distance at the extremes is 10, halfway to the shell as given."""
    frechet = [9.0, 8.0, near, 5.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    steps = {"linear": 0.2, "spherical": 0.2, "linear_over_pixels": ratio, "spherical_over_pixels": 0.5}
    return {
        "radius": [
            {"radius": float(i), "frechet": f, "density": 1.0, "kernel": f / 100} for i, f in enumerate(frechet)
        ],
        "luminance": {"ones": ones, "ones_luminance": [0.5] * 11, "diagonals": [ones] * 200, "direction": -1.0},
        "interpolation": {name: {"value": value} for name, value in steps.items()},
    }


def claim_2(near: Sequence[float]) -> Claim:
    return centre("fc", [surveyed(value, 1.0, 1.0)["radius"] for value in near], LIMITS)


def claim_3(ones: Sequence[float]) -> Claim:
    return brightness("fc", [surveyed(1.0, value, 1.0)["luminance"] for value in ones], LIMITS)


def claim_4(ratios: Sequence[float]) -> Claim:
    return smoothness("fc", [surveyed(1.0, 1.0, ratio)["interpolation"] for ratio in ratios], LIMITS)


def claim_5(ratios: Sequence[float]) -> Claim:
    return recipe("fc", ratios, ratios, LIMITS)


CASES = [  # measured: what the claim says, the opposite, what tells neither
    (claim_1, [0.4, 0.41, 0.39], [1.2, 1.21, 1.19], [0.4, 0.8, 1.2]),
    (claim_2, [3.0, 3.1, 2.9], [20.0, 20.1, 19.9], [3.0, 10.0, 17.0]),
    (claim_3, [0.9, 0.95, 0.98], [-0.9, -0.95, -0.98], [1.0, -1.0, 0.9]),
    (claim_4, [0.6, 0.61, 0.59], [1.6, 1.61, 1.59], [0.6, 1.0, 1.4]),
    (claim_5, [0.6, 0.61, 0.59], [1.6, 1.61, 1.59], [0.6, 1.0, 1.4]),
]


@pytest.mark.parametrize(("claim", "said", "opposite", "neither"), CASES)
def test_the_opposite_measurement_turns_the_verdict(
    claim: Any, said: list[float], opposite: list[float], neither: list[float]
) -> None:
    assert claim(said).verdict == "holds"
    assert claim(opposite).verdict == "does not hold"
    assert claim(neither).verdict == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "holds_if", "verdict"),
    [
        (0.1, 0.4, "below", "holds"), (0.6, 0.9, "below", "does not hold"), (0.4, 0.6, "below", "undecided"),
        (0.1, 0.4, "above", "does not hold"), (0.6, 0.9, "above", "holds"), (0.4, 0.6, "above", "undecided"),
    ],
)  # fmt: skip
def test_an_interval_decides_only_when_it_is_on_one_side(low: float, high: float, holds_if: Any, verdict: str) -> None:
    assert Part("", Estimate((low + high) / 2, 0.1, low, high, 3, "t"), holds_if, 0.5).verdict == verdict


def test_what_is_shown_beside_a_claim_does_not_decide_it() -> None:
    assert claim_3([0.9, 0.95, 0.98]).verdict == "holds"
    beside = claim_3([0.9, 0.95, 0.98]).parts[2]
    assert beside.verdict == "does not hold"
    assert not beside.decides


def test_a_claim_as_json() -> None:
    content = as_json(claim_5([0.6, 0.61, 0.59]))
    assert (content["model"], content["verdict"]) == ("fc", "holds")
    part = content["parts"][0]
    assert part["interval"][0] < part["value"] < part["interval"][1]
    assert (part["n"], part["method"], part["threshold"]) == (3, "paired t on log ratios", 1.0)


@pytest.mark.parametrize(
    ("claim", "values", "ranges"),
    [
        (claim_1, [0.01, 1.0, 100.0], [(0, math.inf)] * 3 + [(-math.inf, math.inf)]),
        (claim_2, [0.1, 1.0, 10.0], [(0, math.inf)] * 2 + [(-1, 1)] + [(-math.inf, math.inf)] * 2),
        (claim_3, [1.0, -1.0, 1.0], [(-1, 1), (0, 1), (-1, 1)]),
        (claim_4, [0.01, 1.0, 100.0], [(0, math.inf)] * 3),
    ],
)
def test_no_interval_of_a_claim_leaves_its_range(
    claim: Any, values: list[float], ranges: list[tuple[float, float]]
) -> None:
    for part, (least, most) in zip(claim(values).parts, ranges, strict=True):
        assert least <= part.estimate.low <= part.estimate.value <= part.estimate.high <= most


def test_no_verdict_pools_the_models() -> None:
    """A claim that holds of one model and not of the other is one with two verdicts, not an undecided one."""
    distances = {"fc": [1.0, 1.01, 0.99], "conv": [0.5, 0.51, 0.49], "assignment-fc": [0.5] * 3}
    distances |= {"fc-longer": distances["fc"], "fc-narrow": distances["fc"], "assignment-conv": [1.0] * 3}
    metrics = {
        cell: [
            {"samples_frechet": value, "reconstructions_frechet": value, "samples_kernel": value} for value in values
        ]
        for cell, values in distances.items()
    }
    claims = all_claims(metrics, {"fc": [surveyed(20.0, 0.9, 0.6)] * 3, "conv": [surveyed(3.0, -0.9, 1.6)] * 3}, LIMITS)
    assert {(claim.number, claim.model): claim.verdict for claim in claims} == {
        (1, "conv"): "holds",
        (2, "fc"): "does not hold",
        (2, "conv"): "holds",
        (3, "fc"): "holds",
        (3, "conv"): "does not hold",
        (4, "fc"): "holds",
        (4, "conv"): "does not hold",
        (5, "fc"): "does not hold",
        (5, "conv"): "holds",
    }
    assert {part.estimate.count for claim in claims for part in claim.parts} == {3}
