"""Do intervals contain what they should as often as they say?"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.metrics import over_draws, over_images


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3 + 7
    estimate = over_images(values, seed=0)
    error = values.double().std().item() / 100
    assert estimate.value == pytest.approx(values.double().mean().item(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(error, rel=4 / math.sqrt(2 * 2000))
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.1)


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
    draws = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = sum(estimate.low < 0 < estimate.high for estimate in map(over_draws, draws.tolist()))
    assert covered / 4000 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_student_interval_by_hand() -> None:
    estimate = over_draws([1.0, 2.0, 3.0])
    assert estimate.value == 2.0
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3))
    assert estimate.high == pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-5)
