"""How sure is a number? Values with 95% intervals that never leave the range of what they estimate.

Means over images have intervals by the bootstrap. Independent draws or trainings are few: theirs are by Student's t, on
a scale on which the quantity has no end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from torch import Tensor

LEVEL = 0.95  # of every interval
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its LEVEL interval from low to high, all in the value's unit."""

    value: float
    standard_error: float
    low: float
    high: float
    count: int  # of the images, draws or trainings that it is from
    method: str  # of the interval


def over_images(values: Tensor, seed: int) -> Estimate:
    """The mean of one value for each image, [N], with a percentile bootstrap over the images (Efron 1979)."""
    array = values.double().numpy()
    found = stats.bootstrap(
        (array,), np.mean, n_resamples=RESAMPLES, batch=100, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = map(float, found.confidence_interval)
    return Estimate(float(array.mean()), float(found.standard_error), low, high, len(array), "bootstrap over images")


def over_draws(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Estimate:
    """The mean of at least two independent measurements, with the part of its interval from `least` to `most`."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = quantile(len(values)) * error
    return Estimate(mean, error, max(least, mean - half), min(most, mean + half), len(values), "t")


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Of at least two positive measurements: ratios, variances, distances."""
    logs = over_draws(np.log(values).tolist())
    value, low, high = (math.exp(log) for log in (logs.value, logs.low, logs.high))
    return Estimate(value, value * logs.standard_error, low, high, logs.count, "t on logs")


def mean_correlation(values: Sequence[float], points: int) -> Estimate:
    """Of at least two rank correlations, each of as many points, on Fisher's scale z = artanh.

    There ±1 is infinite: it counts as half a swap of neighbours away. Each is at least as uncertain, however equal they
    are, as one of drawn points (Fieller, Hartley & Pearson 1957).
    """
    nearly_one = 1 - 6 / (points**3 - points)
    z = over_draws(np.arctanh(np.clip(values, -nearly_one, nearly_one)).tolist())
    error = max(z.standard_error, math.sqrt(1.06 / max(points - 3, 1) / z.count))
    half = quantile(z.count) * error
    value, low, high = (math.tanh(end) for end in (z.value, z.value - half, z.value + half))
    return Estimate(value, error * (1 - value**2), low, high, z.count, "t on Fisher's z")


def mean_share(values: Sequence[float], trials: int) -> Estimate:
    """Of at least two shares, each of as many trials, by Wilson's interval (1927) with t for the normal quantile.

    As for clusters in surveys (Korn & Graubard 1998) it counts as many trials as give the spread of the shares, and
    never more than there were.
    """
    shares, trials = over_draws(values), trials * len(values)
    mean, variance = shares.value, shares.value * (1 - shares.value)
    error = max(shares.standard_error, math.sqrt(variance / trials))
    squared = quantile(shares.count) ** 2 / (variance / error**2 if variance else trials)
    centre, half = (mean + squared / 2) / (1 + squared), math.sqrt(squared * variance + squared**2 / 4) / (1 + squared)
    return Estimate(mean, error, max(0.0, centre - half), min(1.0, centre + half), shares.count, "Wilson with t")


@cache
def quantile(count: int) -> float:
    """Of Student's t, between whose negative and itself LEVEL of a mean of `count` values lies."""
    return float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
