"""How far are images from real ones? Distances between two sets of features, and how the sets cover each other."""

import contextlib
import io
import math
from collections.abc import Sequence

from joblib import parallel_config
from prdc import compute_prdc
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from pipeline.metrics.intervals import Estimate, mean_share, over_draws

NEAREST = 5  # neighbours that span a manifold (Naeem et al. 2020)


def measure_distances(features: Tensor, reference: Tensor, pairwise: int) -> dict[str, float]:
    """All distances of features [N, D] from reference features [M, D].

    frechet and kernel: lower is better. precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et
    al. 2020): higher is better.

    The first `pairwise` of each (fewer where there are fewer) enter those that compare all pairs: all but frechet.
    Sets of other sizes give other numbers: compare only equal ones.
    """
    count = min(pairwise, len(features), len(reference))
    few, few_reference = features[:count], reference[:count]
    return {
        "frechet": frechet_distance(features, reference),
        "kernel": kernel_distance(few, few_reference),
        **neighbourhoods(few, few_reference),
    }


def kernel_distance(features: Tensor, reference: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under a cubic kernel (Binkowski et al. 2018), lower is better.

    Of all features [N, D] and as many reference features at once, not of subsets.
    """
    return float(poly_mmd(reference.double(), features.double()))


def neighbourhoods(features: Tensor, reference: Tensor) -> dict[str, float]:
    """precision, recall, density and coverage of features [N, D], as reference features [M, D] have neighbours."""
    least = min(len(features), len(reference))
    with contextlib.redirect_stdout(io.StringIO()), parallel_config("sequential"):  # prdc prints the sizes
        found = compute_prdc(reference.numpy(), features.numpy(), nearest_k=min(NEAREST, least - 2))
    return {name: float(value) for name, value in found.items()}


def over_sets(distance: str, values: Sequence[float], pairwise: int) -> Estimate:
    """The mean of one of these distances over sets drawn anew; of all only kernel can be negative."""
    if distance in ("precision", "recall", "coverage"):
        return mean_share(values, pairwise)
    return over_draws(values, least=-math.inf if distance == "kernel" else 0.0)


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Squared 2-Wasserstein distance of Gaussians fitted to both (Heusel et al. 2017), lower is better."""
    metric = FrechetInceptionDistance(_AlreadyFeatures(features.shape[1]))
    metric.update(reference.double(), real=True)
    metric.update(features.double(), real=False)
    return float(metric.compute())


class _AlreadyFeatures(nn.Identity):
    """Stands where torchmetrics expects a network that makes features of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
