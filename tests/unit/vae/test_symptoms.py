"""Are a collapsed posterior and a deviation that ran away told of, and healthy trainings left in peace?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipeline.vae.networks import VAE
from pipeline.vae.training import symptoms


def test_a_network_as_it_begins_is_well(tiny_vae: Callable[..., VAE], shapes: torch.Tensor, likelihood: str) -> None:
    vae = tiny_vae("fc", likelihood)
    with torch.no_grad():
        vae.get_parameter("encoder.3.weight").mul_(5)
    assert symptoms(vae, shapes) == {}


def test_a_collapsed_posterior_is_told_with_its_active_units(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor
) -> None:
    vae = tiny_vae()
    with torch.no_grad():
        vae.get_parameter("encoder.3.weight").zero_()
    assert list(symptoms(vae, shapes)) == ["posterior collapse"]
    assert symptoms(vae, shapes)["posterior collapse"].startswith("0 of 4 latent units are active, fewer than 10%")


@pytest.mark.parametrize(("deviation", "told"), [(2.0, "deviation is 2,"), (1e-6, "deviation is 1e-06,")], ids=str)
def test_a_runaway_deviation_is_told_with_its_size(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, deviation: float, told: str
) -> None:
    vae = tiny_vae()
    with torch.no_grad():
        vae.get_parameter("encoder.3.weight").mul_(5)
        vae.likelihood_log_std.fill_(deviation).log_()
    assert told in symptoms(vae, shapes)["runaway deviation"]
