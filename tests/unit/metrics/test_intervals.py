"""Do intervals contain what they should as often as they say, and nothing that cannot be?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.metrics.intervals import (
    Estimate,
    geometric_mean,
    mean_correlation,
    mean_share,
    over_draws,
    over_images,
    quantile,
)

DRAWS = 4000
SEEDS = st.integers(2, 8)


def covered(estimates: Sequence[Estimate], truth: float) -> float:
    """How often intervals contain the truth."""
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate in estimates]))


def within(estimate: Estimate, least: float, most: float) -> bool:
    """Whether an estimate is one, of a quantity with that range; its value but for rounding."""
    slack = 1e-9 * max(1.0, abs(estimate.value))
    return (
        least <= estimate.low <= estimate.value + slack
        and estimate.value - slack <= estimate.high <= most
        and estimate.standard_error >= 0
    )


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3 + 7
    estimate = over_images(values, seed=0)
    error = values.double().std().item() / 100
    assert estimate.value == pytest.approx(values.double().mean().item(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(error, rel=4 / math.sqrt(2 * 2000))
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert estimate.count == 10_000


def test_the_bootstrap_repeats() -> None:
    values = torch.arange(50) % 7
    assert over_images(values, seed=0) == over_images(values, seed=0)
    assert over_images(values, seed=0) != over_images(values, seed=1)


def test_the_bootstrap_of_right_and_wrong_answers() -> None:
    estimate = over_images(torch.arange(1000) % 4 == 0, seed=0)
    assert estimate.value == 0.25
    assert 0.2 < estimate.low < 0.25 < estimate.high < 0.3


def test_student_intervals_contain_the_mean_95_times_of_100() -> None:
    """4,000 times three draws: the share is 0.95 within 4 standard errors."""
    draws = np.random.default_rng(0).normal(size=(DRAWS, 3))
    assert covered([over_draws(row) for row in draws], 0) == pytest.approx(0.95, abs=0.014)
    assert covered([geometric_mean(row) for row in np.exp(draws + 2)], math.exp(2)) == pytest.approx(0.95, abs=0.014)


def test_student_interval_by_hand() -> None:
    estimate = over_draws([1.0, 2.0, 3.0])
    assert estimate.value == 2.0
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3))
    assert estimate.high == pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-5)
    assert (estimate.count, estimate.method) == (3, "t")
    cut = over_draws([1.0, 2.0, 3.0], least=0.0, most=4.0)
    assert (cut.value, cut.low, cut.high) == (2.0, 0.0, 4.0)


def test_a_paired_ratio_has_scipys_interval_of_logs_and_turns_round_with_its_sides() -> None:
    ours, theirs = np.array([5.0, 6.0, 8.0, 5.5, 7.0]), np.array([6.0, 8.0, 8.5, 7.0, 9.0])
    estimate, turned = geometric_mean(ours / theirs), geometric_mean(theirs / ours)
    paired = stats.ttest_rel(np.log(ours), np.log(theirs)).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((math.exp(paired.low), math.exp(paired.high)), rel=1e-12)
    assert estimate.value == pytest.approx(stats.gmean(ours) / stats.gmean(theirs), rel=1e-12)
    assert (turned.low, turned.value, turned.high) == pytest.approx(
        (1 / estimate.high, 1 / estimate.value, 1 / estimate.low)
    )


def test_the_log_scale_has_no_negative_variance() -> None:
    values = [1.0, 10.0, 30_000.0]
    assert over_draws(values).low < 0 < geometric_mean(values).low


def test_correlations_on_fishers_scale_by_hand() -> None:
    estimate = mean_correlation([0.5, 0.6, 0.9], points=11)
    z = over_draws([0.5493061443, 0.6931471806, 1.4722194895])  # artanh, from tables
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx(
        (math.tanh(z.low), math.tanh(z.value), math.tanh(z.high)), rel=1e-9
    )


def test_equal_correlations_have_the_error_of_their_points() -> None:
    """Fieller, Hartley & Pearson (1957): the variance of artanh r of n points is 1.06 / (n - 3)."""
    estimate = mean_correlation([0.5, 0.5, 0.5, 0.5], points=11)
    half = quantile(4) * math.sqrt(1.06 / 8 / 4)
    assert estimate.high == pytest.approx(math.tanh(math.atanh(0.5) + half), rel=1e-12)


def test_an_exact_correlation_lies_between_one_and_what_a_swap_of_neighbours_leaves() -> None:
    swapped = float(stats.spearmanr(range(11), [1, 0, *range(2, 11)]).statistic)
    estimate = mean_correlation([1.0, 1.0, 1.0], points=11)
    assert estimate.value == pytest.approx((1 + swapped) / 2, rel=1e-12)
    assert 0.9 < estimate.low < estimate.high < 1


def test_opposite_correlations_tell_nothing() -> None:
    estimate = mean_correlation([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], points=11)
    assert estimate.value == pytest.approx(0, abs=1e-12)
    assert -1 <= estimate.low < -0.99
    assert 0.99 < estimate.high <= 1
    assert mean_correlation([1.0, 1.0, -1.0], points=11).low == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize("shares", [[0.49, 0.5, 0.51], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.005, 0.005, 0.0]])
def test_shares_that_chance_spreads_have_scipys_wilson_interval(shares: list[float]) -> None:
    estimate = mean_share(shares, trials=200)
    level = 2 * stats.norm.cdf(quantile(3)) - 1  # at which the normal quantile is that of t
    wilson = stats.binomtest(round(200 * sum(shares)), 600).proportion_ci(level, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert estimate.value == pytest.approx(sum(shares) / 3)


def test_shares_that_more_than_chance_spreads_count_fewer_trials() -> None:
    shares = [0.2, 0.5, 0.8]
    estimate = mean_share(shares, trials=200)
    assert estimate == mean_share(shares, trials=100_000)
    trials = 0.25 / (0.09 / 3)  # as many as have that variance: 8.3 instead of 600
    squared = quantile(3) ** 2
    half = math.sqrt(squared * 0.25 / trials + squared**2 / (4 * trials**2)) / (1 + squared / trials)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-12)


def test_share_intervals_contain_a_share_near_one_95_times_of_100() -> None:
    draws = np.random.default_rng(0).binomial(200, 0.98, size=(DRAWS, 5)) / 200
    assert covered([mean_share(row, 200) for row in draws], 0.98) > 0.95


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=8))
def test_no_interval_of_positive_numbers_reaches_zero(values: list[float]) -> None:
    assert within(geometric_mean(values), 5e-324, math.inf)
    assert within(over_draws(values, least=0.0), 0.0, math.inf)


@given(st.integers(3, 100), st.lists(st.floats(-1, 1) | st.sampled_from([-1.0, 1.0]), min_size=2, max_size=8))
def test_no_interval_of_correlations_leaves_their_range(points: int, values: list[float]) -> None:
    estimate = mean_correlation(values, points)
    assert within(estimate, -1, 1)
    assert estimate.low < estimate.high


@given(st.data(), st.integers(1, 10_000), SEEDS)
def test_no_interval_of_shares_leaves_their_range(data: st.DataObject, trials: int, seeds: int) -> None:
    counts = data.draw(st.lists(st.integers(0, trials), min_size=seeds, max_size=seeds))
    estimate = mean_share([count / trials for count in counts], trials)
    assert within(estimate, 0, 1)
    assert estimate.low < estimate.high
