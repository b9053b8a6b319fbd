"""What may ail a training that still runs? A collapsed posterior, or a likelihood's deviation that ran away."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import active_units

COLLAPSED = 0.1  # share of active units below which latents tell next to nothing of a picture
DEVIATIONS = (1e-4, 0.5)  # in pixel values from 0 to 1: far below a grey level, and all that pixels can differ


@torch.no_grad()
def symptoms(vae: VAE, images: Tensor) -> dict[str, str]:
    """What is wrong, in a line each, by what it is called, as uint8 images [N, 3, 32, 32] show it."""
    vae.eval()
    found = {}
    means = vae.encode(to_float(images.to(vae.device))).mean  # [N, latent_dim]
    active, units = active_units(means), means.shape[1]
    if active < COLLAPSED * units:
        found["posterior collapse"] = (
            f"{active} of {units} latent units are active, fewer than {COLLAPSED:.0%}; lower kl_weight or raise "
            "train.kl_warmup_epochs"
        )
    if vae.architecture.likelihood == "gaussian":
        deviation = vae.likelihood_log_std.exp().item()
        if not DEVIATIONS[0] <= deviation <= DEVIATIONS[1]:
            found["runaway deviation"] = (
                f"the likelihood's deviation is {deviation:.3g}, outside {DEVIATIONS[0]:g} to {DEVIATIONS[1]:g}; "
                "lower train.learning_rate"
            )
    return found
