"""What lies where in latent space? Paths outward from its centre, along a direction, between two images."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from pipeline.vae.images import generator, to_float
from pipeline.vae.sampling import interpolate

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601)


def on_sphere(radius: float, count: int, latent_dim: int, seed: int) -> Tensor:
    """Latents [count, latent_dim] at one distance from the centre, in directions that are the same for every radius.

    The prior's own draws lie near sqrt(latent_dim): that is its typical shell.
    """
    draws = torch.randn(count, latent_dim, generator=generator(seed, "directions"))
    return radius * F.normalize(draws, dim=1)


def luminance(images: Tensor) -> Tensor:
    """Mean luminance of each uint8 image [N, 3, 32, 32], 0..1, [N]."""
    return (to_float(images).mean((2, 3)) * torch.tensor(LUMINANCE)).sum(1)


def luminance_direction(means: Tensor, images: Tensor) -> Tensor:
    """Unit direction [latent_dim] in which posterior means [N, latent_dim] move as their images get brighter.

    Their covariances with luminance, not the weights of a regression, which also cancel what other dimensions carry and
    may point where no image lies (Haufe et al. 2014).
    """
    centered = (means - means.mean(0)).double()
    target = luminance(images).double()
    return F.normalize((target - target.mean()) @ centered, dim=0).float()


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's: 1 where both grow together, -1 where one falls as the other grows; 0 where one does not vary."""
    if len(first.unique()) == 1 or len(second.unique()) == 1:
        return 0.0
    return float(stats.spearmanr(first.numpy(), second.numpy()).statistic)


def spherical(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents on arcs from start to end, both [R, latent_dim], ends included: [R, steps, latent_dim] (Shoemake 1985).

    The angle grows evenly and so does the length, if the ends differ in length.
    """
    cosine = F.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine).clamp(1e-3, math.pi - 1e-3).view(-1, 1, 1)  # [R, 1, 1], where arcs are well defined
    share = torch.linspace(0, 1, steps).view(1, -1, 1)
    weights = torch.sin((1 - share) * angle) / torch.sin(angle), torch.sin(share * angle) / torch.sin(angle)
    directions = F.normalize(start, dim=1).unsqueeze(1) * weights[0] + F.normalize(end, dim=1).unsqueeze(1) * weights[1]
    lengths = start.norm(dim=1).view(-1, 1, 1) * (1 - share) + end.norm(dim=1).view(-1, 1, 1) * share
    arcs: Tensor = directions * lengths
    return arcs


def crossfade(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Fading pixels from start to end, both uint8 [R, 3, 32, 32]: [R, steps, 3, 32, 32], rounded to 8 bits."""
    lines = interpolate(start.flatten(1).float(), end.flatten(1).float(), steps)
    return lines.round().to(torch.uint8).view(*lines.shape[:2], *start.shape[1:])


def largest_steps(paths: Tensor, featurize: Callable[[Tensor], Tensor]) -> Tensor:
    """Of each path of images, uint8 [R, steps, 3, 32, 32], the largest step in feature space, [R].

    In units of the distance between the path's ends, which must differ: 1 / (steps - 1) for a straight line walked
    evenly.
    """
    features = featurize(paths.flatten(0, 1)).view(*paths.shape[:2], -1)  # [R, steps, D]
    steps: Tensor = (features[:, 1:] - features[:, :-1]).norm(dim=2)
    whole: Tensor = (features[:, -1] - features[:, 0]).norm(dim=1)
    return steps.amax(1) / whole
