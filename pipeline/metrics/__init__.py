"""What is measured of images, latents and models, and how sure is a number?

Means over images have intervals by the bootstrap, means over independent draws or trainings by Student's t.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def over_images(values: Tensor, seed: int) -> Estimate:
    """The mean of one value for each image, [N], with a percentile bootstrap over the images (Efron 1979)."""
    array = values.double().numpy()
    found = stats.bootstrap(
        (array,), np.mean, n_resamples=RESAMPLES, batch=100, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = found.confidence_interval
    return Estimate(float(array.mean()), float(found.standard_error), float(low), float(high))


def over_draws(values: Sequence[float]) -> Estimate:
    """The mean of at least two independent measurements: of draws, or of trainings with other seeds."""
    array = np.asarray(values, dtype=np.float64)
    error = float(array.std(ddof=1)) / len(array) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(array) - 1)) * error
    mean = float(array.mean())
    return Estimate(mean, error, mean - half, mean + half)
