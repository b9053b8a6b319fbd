"""Does training learn, follow its schedule, and repeat itself bit by bit?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pipeline.params import Train
from pipeline.vae.images import generator, to_float
from pipeline.vae.networks import VAE, build_vae
from pipeline.vae.objective import bound_terms
from pipeline.vae.training import EpochMetrics, NonFiniteError, Training, learning_rate, symptoms, validate, warm_up

SETTINGS = Train(
    epochs=2,
    batch_size=16,
    learning_rate=0.003,
    warmup_epochs=0.5,
    kl_warmup_epochs=0.5,
    weight_decay=0.0,
    max_grad_norm=1e6,
    horizontal_flips=True,
    precision="float32",
)


def trained(vae: VAE, shapes: torch.Tensor, seed: int = 0, epochs: int = 2) -> list[EpochMetrics]:
    return list(Training(vae, shapes, shapes[:10], SETTINGS.model_copy(update={"epochs": epochs}), 1.0, seed).epochs())


def test_same_seed_same_bits_another_seed_differs(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str, likelihood: str
) -> None:
    vaes = [tiny_vae(model, likelihood) for _ in range(3)]
    histories = [trained(vae, shapes, seed) for vae, seed in zip(vaes, (0, 0, 1), strict=True)]
    first, again, other = (vae.state_dict() for vae in vaes)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert histories[0] == histories[1] != histories[2]
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_mixture_prior_is_refitted_and_repeats_bit_by_bit(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    start, first, again = (tiny_vae(prior_components=3) for _ in range(3))
    assert trained(first, shapes) == trained(again, shapes)
    for name, value in first.prior.state_dict().items():
        assert torch.equal(value, again.prior.state_dict()[name]), name
        assert not torch.equal(value, start.prior.state_dict()[name]), name


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("prior_components", [0, 3])
def test_resumed_after_any_step_it_ends_with_the_same_bits(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str, prior_components: int
) -> None:
    def begin(seed: int = 0) -> Training:
        vae = tiny_vae(model, seed=seed, prior_components=prior_components)
        return Training(vae, shapes, shapes[:10], SETTINGS, 1.0, 0)

    undisturbed = begin()
    history = list(undisturbed.epochs())
    for last in range(undisturbed.step + 1):
        first, second, seen = begin(), begin(seed=1), []

        def stop(_: int, training: Training = first, last: int = last) -> None:
            if training.step == last:
                raise StoppedError

        with contextlib.suppress(StoppedError):
            stop(0)
            for metrics in first.epochs(stop):
                seen += [metrics]
        state = {name: value.clone().contiguous() for name, value in first.state().items()}
        second.load_state(state)
        assert second.images_seen == first.images_seen
        seen += second.epochs()
        assert seen == history, last
        for name, value in undisturbed.vae.state_dict().items():
            assert torch.equal(value, second.vae.state_dict()[name]), (last, name)


@pytest.mark.parametrize(
    ("broken", "told"), [("images", "rate nan, distortion nan"), ("likelihood", "distortion inf")], ids=str
)
def test_a_number_that_is_not_finite_stops_it_within_the_step(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, broken: str, told: str
) -> None:
    vae = tiny_vae()
    training = Training(vae, shapes, shapes[:10], SETTINGS, 1.0, 0)

    def spoil(_: int) -> None:
        if training.step == 2:
            weights = vae.get_parameter("encoder.1.weight") if broken == "images" else vae.likelihood_log_std
            weights.data.fill_(float("nan") if broken == "images" else -60.0)

    with pytest.raises(NonFiniteError, match=rf"^epoch 1, step 3 of 4: {told}.* at a learning rate of 0\.003$"):
        list(training.epochs(spoil))
    assert training.step == 2


def test_what_the_caller_draws_between_epochs_changes_nothing(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor
) -> None:
    quiet, watched = tiny_vae(), tiny_vae()
    history = trained(quiet, shapes)
    seen = []
    for metrics in Training(watched, shapes, shapes[:10], SETTINGS, 1.0, 0).epochs():
        torch.randn(7)
        with torch.no_grad():
            watched.eval().decode(torch.zeros(1, 4))
        seen.append(metrics)
    assert seen == history


def test_it_overfits_eight_images(tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str) -> None:
    history = trained(tiny_vae(model), shapes[:8], epochs=150)
    assert history[-1]["train/elbo"] > history[0]["train/elbo"] + 1000


def test_kl_weight_lowers_the_rate(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 30})
    rates = []
    for kl_weight in (1, 50):
        *_, last = Training(tiny_vae(), shapes, shapes, settings, kl_weight, 0).epochs()
        rates.append(last["validation/rate"])
    assert rates[1] < 0.7 * rates[0]


def test_an_autoencoder_leaves_alone_what_only_noise_needs(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    autoencoder = build_vae(replace(tiny_vae("conv").architecture, posterior="point"), seed=0)
    before = autoencoder.get_parameter("encoder.5.bias").clone()  # of means, then of standard deviations
    (first, *_) = Training(autoencoder, shapes, shapes, SETTINGS, kl_weight=0.0, seed=0).epochs()
    after = autoencoder.get_parameter("encoder.5.bias")
    assert torch.equal(after[4:], before[4:])
    assert not torch.equal(after[:4], before[:4])
    assert all(math.isfinite(value) for value in first.values())


def test_schedule_warms_up_linearly_and_decays_to_zero() -> None:
    rates = [learning_rate(SETTINGS, progress) for progress in (0, 0.25, 0.5, 1.25, 2)]
    assert rates == pytest.approx([0, 0.0015, 0.003, 0.0015, 0], abs=1e-12)
    assert [warm_up(progress, 2) for progress in (0, 1, 2, 3)] == [0, 0.5, 1, 1]
    assert warm_up(0, 0) == 1


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_validation_does_not_depend_on_the_batch_size(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, batch_size: int
) -> None:
    vae = tiny_vae()
    whole = validate(vae, shapes, 50, generator(0, "noise"))
    assert validate(vae, shapes, batch_size, generator(0, "noise")) == pytest.approx(whole, rel=1e-6)
    halves = [validate(vae, part, 50, generator(0, "noise")) for part in (shapes[:45], shapes[45:])]
    mean_of_means = (halves[0]["validation/elbo"] + halves[1]["validation/elbo"]) / 2
    assert mean_of_means != pytest.approx(whole["validation/elbo"], rel=1e-6)  # the wrong version


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


def test_in_bfloat16_all_but_products_is_float32_and_what_is_measured_is_as_ever(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str
) -> None:
    vaes, terms = [tiny_vae(model, prior_components=3) for _ in range(2)], []
    images = to_float(shapes)
    noise = torch.zeros(len(images), 4)
    for vae, precision in zip(vaes, ("float32", "bfloat16"), strict=True):
        training = Training(vae, shapes, shapes, SETTINGS.model_copy(update={"precision": precision}), 1.0, 0)
        vae.eval()
        measured = bound_terms(vae, images, noise).elbo
        vae.train()
        terms.append((measured, bound_terms(vae, images, noise).elbo))
        training._take_step(images, training._update)
        assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}
        kept = [value for state in training.optimizer.state.values() for value in state.values()]
        assert {value.dtype for value in kept} == {torch.float32}
    (exact, in_float32), (measured, in_bfloat16) = terms
    assert torch.equal(measured, exact)
    assert in_bfloat16.dtype == torch.float32
    assert not torch.equal(in_bfloat16, in_float32)
    torch.testing.assert_close(in_bfloat16, in_float32, rtol=1e-2, atol=1.0)
