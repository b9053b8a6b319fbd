"""Does a GPU take the steps that a CPU takes, without waiting? On a CPU, with what records a step replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pipeline.vae import graph, training
from pipeline.vae.graph import Step
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, bound_terms
from pipeline.vae.training import EpochMetrics, NonFiniteError, Training
from tests.unit.vae.test_training import SETTINGS

EPOCHS = SETTINGS.model_copy(update={"epochs": 3, "max_grad_norm": 100.0})  # of 3 full batches and a ragged one


class Recording(TorchDispatchMode):
    """What a CUDA graph is to a GPU: operations on fixed memory, without the Python between them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, call: Any, _: Any, arguments: Any = (), options: Any = None) -> Any:
        result = call(*arguments, **(options or {}))
        aliases = any(argument.alias_info for argument in call._schema.arguments)
        if call._schema.is_mutable or not aliases:  # else it is a view, which stays as it is
            given = tree_map_only(Tensor, Tensor.detach, (arguments, options or {}))
            made = [] if aliases else tree_map_only(Tensor, Tensor.detach, tree_leaves(result))
            self.operations.append((call, given, made))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for call, (arguments, options), made in self.operations:
            result = call(*arguments, **options)
            for kept, part in zip(made, tree_leaves(result), strict=False):
                if isinstance(kept, Tensor):
                    kept.copy_(part)


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """Recordings that were made, by a CPU that is treated like a GPU."""
    made: list[Recording] = []

    def record(step: Step, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Unlike on a GPU the recorded call runs, so the first replay does not."""
        with Recording() as recording:
            output = step(*inputs)
        made.append(recording)
        replays = iter([lambda: None])
        return lambda: next(replays, recording.replay)(), output

    monkeypatch.setattr(training, "runs_ahead", lambda _: True)
    monkeypatch.setattr(graph, "record", record)
    monkeypatch.setattr(graph, "warm_up", lambda step, inputs: step(*inputs))
    return made


def begin(vae: VAE, shapes: Tensor, **changes: Any) -> Training:
    return Training(vae, shapes, shapes[:10], EPOCHS.model_copy(update=changes), 1.0, 0)


def finish(started: Training) -> tuple[list[EpochMetrics], dict[str, Tensor]]:
    return list(started.epochs()), started.vae.state_dict()


@pytest.mark.parametrize("prior_components", [0, 3])
@pytest.mark.parametrize("max_grad_norm", [100.0, 1e6])
def test_recorded_and_replayed_a_training_ends_with_the_same_bits(
    tiny_vae: Callable[..., VAE],
    shapes: Tensor,
    model: str,
    likelihood: str,
    prior_components: int,
    max_grad_norm: float,
    request: pytest.FixtureRequest,
) -> None:
    def whole() -> tuple[list[EpochMetrics], dict[str, Tensor]]:
        vae = tiny_vae(model, likelihood, prior_components=prior_components)
        return finish(begin(vae, shapes, max_grad_norm=max_grad_norm))

    history, weights = whole()
    recordings = request.getfixturevalue("recordings")
    replayed_history, replayed_weights = whole()
    assert len(recordings) == 1
    assert replayed_history == history
    assert all(torch.equal(replayed_weights[name], value) for name, value in weights.items())


def test_no_step_on_a_gpu_reads_a_number_from_it(
    tiny_vae: Callable[..., VAE], shapes: Tensor, model: str, likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors without values, whose reading is an error; autocast and the optimizer's kernel know them not."""
    monkeypatch.setattr(training, "runs_ahead", lambda _: True)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda _: None)
    monkeypatch.setattr(VAE, "_products", lambda _: nullcontext())
    started = begin(tiny_vae(model, likelihood, prior_components=3).to("meta"), shapes.to("meta"))
    numbers = started._update(torch.zeros(16, 3, 32, 32, device="meta"), torch.zeros(16, 4, device="meta"))
    assert (numbers.device.type, numbers.shape) == ("meta", (3,))
    started.ahead = False
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        started._update(torch.zeros(16, 3, 32, 32, device="meta"), torch.zeros(16, 4, device="meta"))


def infinite_noise_at(step: int, started: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = training._noise

    def noise(*arguments: Any) -> Tensor:
        return draw(*arguments).fill_(math.inf) if started.step == step else draw(*arguments)

    monkeypatch.setattr(training, "_noise", noise)


@pytest.mark.parametrize("step", [1, 5, 7])  # before the recording, replayed, and the ragged last one of an epoch
@pytest.mark.parametrize("read_by", ["epoch", "state", "count"])
def test_a_number_that_is_not_finite_is_told_late_with_its_step_and_no_step_is_taken_from_it_on(
    tiny_vae: Callable[..., VAE],
    shapes: Tensor,
    recordings: list[Recording],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    read_by: str,
) -> None:
    started, seen, kept = begin(tiny_vae(), shapes), [0], dict[str, Tensor]()
    infinite_noise_at(step, started, monkeypatch)
    monkeypatch.setattr(training, "READ_EVERY", 3 if read_by == "count" else 100)

    def after_step(_: int) -> None:
        seen.append(started.step)
        if started.step == step:
            kept.update({name: value.clone() for name, value in started.state().items()})
        elif read_by == "state":
            started.state()

    with pytest.raises(
        NonFiniteError, match=rf"^epoch {step // 4 + 1}, step {step % 4 + 1} of 4: distortion nan, norm"
    ):
        list(started.epochs(after_step))
    assert seen[-1] == {"epoch": step - step % 4 + 4, "state": step + 1, "count": step - step % 3 + 2}[read_by]
    assert started.step == step
    started.broken.zero_()
    for name, value in started.state().items():
        if name.startswith(("vae.", "optimizer.")):
            assert torch.equal(value, kept[name]), name


def test_a_processor_tells_of_it_at_once_and_keeps_what_was_before(
    tiny_vae: Callable[..., VAE], shapes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, seen = begin(tiny_vae(), shapes), []
    infinite_noise_at(5, started, monkeypatch)

    def after_step(_: int) -> None:
        seen.append(started.vae.state_dict()["encoder.1.weight"].clone())

    with pytest.raises(NonFiniteError, match=r"^epoch 2, step 2 of 4: distortion nan, norm of the gradient nan at"):
        list(started.epochs(after_step))
    assert len(seen) == 5
    assert torch.equal(started.vae.state_dict()["encoder.1.weight"], seen[-1])


def test_a_state_between_two_readings_goes_on_with_the_same_bits(
    tiny_vae: Callable[..., VAE], shapes: Tensor, model: str, recordings: list[Recording]
) -> None:
    history, weights = finish(begin(tiny_vae(model, prior_components=3), shapes))
    interrupted, states = begin(tiny_vae(model, prior_components=3), shapes), []

    def after_step(_: int) -> None:
        if interrupted.step == 6:
            states.append({name: value.clone() for name, value in interrupted.state().items()})

    list(interrupted.epochs(after_step))
    resumed = begin(tiny_vae(model, seed=1, prior_components=3), shapes)
    resumed.load_state(states[0])
    later_history, later_weights = finish(resumed)
    assert later_history == history[1:]
    assert all(torch.equal(later_weights[name], value) for name, value in weights.items())


def test_a_bound_of_ones_own_is_not_recorded(
    tiny_vae: Callable[..., VAE], shapes: Tensor, recordings: list[Recording]
) -> None:
    batches = []

    def bound(vae: VAE, images: Tensor, noise: Tensor) -> Terms:
        batches.append(len(images))
        return bound_terms(vae, images, noise)

    list(Training(tiny_vae(), shapes, shapes[:10], EPOCHS, 1.0, 0, bound).epochs())
    assert not recordings
    assert batches == 3 * [16, 16, 16, 2]
