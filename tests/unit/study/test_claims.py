"""Does each verdict turn when the opposite is measured?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pipeline.metrics.intervals import Estimate
from pipeline.params import load_yaml
from pipeline.study.claims import Claim, Part, architectures, as_json, brightness, centre, recipe, smoothness
from tests.fixtures import ROOT

LIMITS = load_yaml(ROOT / "study/params.yaml")["claims"]


def claim_1(ratios: Sequence[float]) -> Claim:
    return architectures({"at equal epochs": [0.5, 0.5, 0.5], "at equal parameters": ratios}, ratios, LIMITS)


def claim_2(near: Sequence[float]) -> Claim:
    """Nine radii; the Fréchet distance at the extremes is 10, halfway to the shell as given."""
    curves = []
    for value in near:
        frechet = [9.0, 8.0, value, 5.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        same = {"confidence": 0.5, "density": 1.0}
        curves.append([same | {"radius": float(i), "frechet": f} for i, f in enumerate(frechet)])
    return centre(curves, LIMITS)


def claim_3(ones: Sequence[float]) -> Claim:
    return brightness([{"ones": value, "diagonals": [value] * 9, "direction": -1.0} for value in ones], LIMITS)


def claim_4(ratios: Sequence[float]) -> Claim:
    def path(ratio: float) -> dict[str, Mapping[str, float]]:
        found = {"linear": 0.2, "spherical": 0.2, "linear_over_pixels": ratio, "spherical_over_pixels": 0.5}
        return {name: {"value": value} for name, value in found.items()}

    return smoothness([path(ratio) for ratio in ratios], LIMITS)


def claim_5(ratios: Sequence[float]) -> Claim:
    return recipe({"fc": [0.5, 0.5, 0.5], "conv": ratios}, LIMITS)


CASES = [  # measured: what the claim says, the opposite, what tells neither
    (claim_1, [0.4, 0.41, 0.39], [1.2, 1.21, 1.19], [0.4, 0.8, 1.2]),
    (claim_2, [3.0, 3.1, 2.9], [20.0, 20.1, 19.9], [3.0, 10.0, 17.0]),
    (claim_3, [0.9, 0.95, 1.0], [-0.9, -0.95, -1.0], [1.0, -1.0, 0.9]),
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
    assert claim_3([0.9, 0.95, 1.0]).verdict == "holds"
    beside = claim_3([0.9, 0.95, 1.0]).parts[2]
    assert beside.verdict == "does not hold"
    assert not beside.decides


def test_a_claim_as_json() -> None:
    content = as_json(claim_5([0.6, 0.61, 0.59]))
    assert content["verdict"] == "holds"
    assert content["parts"][1]["interval"][0] < content["parts"][1]["value"] < content["parts"][1]["interval"][1]
