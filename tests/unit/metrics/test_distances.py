"""Do the distances agree with independent implementations and with what is known in closed form?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, spatial

from pipeline.metrics.distances import NEAREST, frechet_distance, measure_distances, over_sets


def features(count: int, dimension: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(99))
    return torch.randn(count, dimension, generator=rng) @ mixing * scale + shift


def frechet_by_scipy(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Dowson & Landau 1982, with a matrix square root instead of eigenvalues."""
    (mean, covariance), (mean2, covariance2) = (
        (side.double().numpy().mean(0), np.cov(side.double().numpy(), rowvar=False)) for side in (ours, theirs)
    )
    root = linalg.sqrtm(covariance @ covariance2).real
    return float(((mean - mean2) ** 2).sum() + np.trace(covariance + covariance2 - 2 * root))


def kernel_by_loops(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Gretton et al. 2012, eq. 3, one pair after the other."""
    one, other = ours.double().tolist(), theirs.double().tolist()

    def kernel(x: list[float], y: list[float]) -> float:
        return (math.fsum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    within = [
        math.fsum(kernel(x, y) for i, x in enumerate(side) for j, y in enumerate(side) if i != j)
        for side in (one, other)
    ]
    between = math.fsum(kernel(x, y) for x in one for y in other)
    count = len(one)
    return sum(within) / (count * (count - 1)) - 2 * between / count**2


def test_the_frechet_distance_agrees_with_an_independent_implementation() -> None:
    ours, theirs = features(3000, 24, seed=1, shift=0.3, scale=1.2), features(2000, 24, seed=2)
    assert frechet_distance(ours, theirs) == pytest.approx(frechet_by_scipy(ours, theirs), rel=1e-6)


def test_the_frechet_distance_of_two_gaussians_in_closed_form() -> None:
    """Of N(0, 1) and N(2, 9) in each of four dimensions: 4 * (2^2 + (3 - 1)^2) = 32; 4 standard errors."""
    rng = torch.Generator().manual_seed(0)
    narrow = torch.randn(200_000, 4, generator=rng)
    wide = 2 + 3 * torch.randn(200_000, 4, generator=rng)
    assert frechet_distance(wide, narrow) == pytest.approx(32, abs=4 * 0.05)


def test_the_kernel_distance_agrees_with_an_independent_implementation() -> None:
    ours, theirs = features(60, 8, seed=1, shift=0.5), features(60, 8, seed=2)
    assert measure_distances(ours, theirs, 60)["kernel"] == pytest.approx(kernel_by_loops(ours, theirs), rel=1e-6)


def test_neighbourhoods_agree_with_an_independent_implementation() -> None:
    ours, real = features(150, 3, seed=1, shift=1.0), features(150, 3, seed=2)

    def radii(points: torch.Tensor) -> np.ndarray[Any, Any]:
        """Distance to the NEAREST-th neighbour, the point itself not counted."""
        return np.sort(spatial.distance.cdist(points.numpy(), points.numpy()))[:, NEAREST]

    between = spatial.distance.cdist(real.numpy(), ours.numpy())
    inside = between < radii(real)[:, None]  # ours within the ball of a real one
    expected = {
        "precision": inside.any(0).mean(),
        "recall": (between < radii(ours)[None, :]).any(1).mean(),
        "density": inside.sum(0).mean() / NEAREST,
        "coverage": inside.any(1).mean(),
    }
    found = measure_distances(ours, real, 150)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_neighbourhoods_of_a_set_and_itself_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    same = features(100, 5, seed=1)
    found = measure_distances(same, same, 100)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert capsys.readouterr().out == ""


def test_all_distances_compare_equally_many_where_pairs_count() -> None:
    ours, real = features(80, 6, seed=1), features(120, 6, seed=2)
    found = measure_distances(ours, real, pairwise=50)
    assert list(found) == ["frechet", "kernel", "precision", "recall", "density", "coverage"]
    assert found | {"frechet": 0} == measure_distances(ours[:50], real[:50], pairwise=50) | {"frechet": 0}
    assert found["frechet"] == frechet_distance(ours, real)
    few = measure_distances(ours, real[:80], pairwise=80)
    assert measure_distances(ours, real, pairwise=1000) | {"frechet": 0} == few | {"frechet": 0}


def test_only_the_kernel_distance_has_an_interval_below_zero_and_shares_none_above_one() -> None:
    """However far apart the draws are."""
    distances = measure_distances(features(50, 4, seed=0), features(50, 4, seed=1), pairwise=50)
    estimates = {name: over_sets(name, [0.01, 0.99], pairwise=50) for name in distances}
    assert {name for name, estimate in estimates.items() if estimate.low < 0} == {"kernel"}
    assert {name for name, estimate in estimates.items() if estimate.high > 1} == {"frechet", "kernel", "density"}
