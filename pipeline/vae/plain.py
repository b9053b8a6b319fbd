"""Which network do the experiments on theory share? That of params.yaml under the assignment's prior."""

from __future__ import annotations

from pipeline.params import Model, Params
from pipeline.vae.networks import VAE, Architecture, build_vae


def plain_vae(params: Params, model: Model) -> VAE:
    """A VAE with the prior N(0, I) and the initial weights of `params.seed`."""
    sizes = params.networks.fc.hidden if model == "fc" else params.networks.conv.channels
    architecture = Architecture(model, tuple(sizes), params.latent_dim, params.likelihood, prior_components=0)
    return build_vae(architecture, params.seed)
