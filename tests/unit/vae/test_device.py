"""Where do images and batches go? Tested as far as a machine without a GPU can."""

from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.vae.device import describe, place, prepare, runs_ahead
from pipeline.vae.images import batches, generator

CUDA = torch.device("cuda")


def test_a_cpu_is_called_so_and_a_gpu_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"model of {device}")
    assert describe(torch.device("cpu")) == "cpu"
    assert describe(CUDA) == "model of cuda"


def test_images_that_do_not_fit_on_a_gpu_stay_where_they_are(
    shapes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * shapes.nbytes - 1, 10**10))
    assert place(shapes, CUDA) is shapes
    assert place(shapes, torch.device("cpu")) is shapes


def test_batches_go_to_the_device_of_the_network(shapes: torch.Tensor) -> None:
    elsewhere = torch.device("meta")  # holds no numbers, but refuses to mix with tensors that do
    found = list(batches(shapes, 20, generator(0, "shuffle"), flips=True, device=elsewhere))
    assert [(batch.device, batch.shape[0], batch.dtype) for batch in found] == [
        (elsewhere, count, torch.float32) for count in (20, 20, 10)
    ]


@pytest.mark.parametrize("threads", [None, 1])
def test_deterministic_algorithms_are_demanded_and_memory_is_not_filled(threads: int | None) -> None:
    prepare(threads)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_threads_are_those_of_every_library() -> None:
    before = torch.get_num_threads()
    with threadpool_limits(2):
        prepare(1)
        assert {library["num_threads"] for library in threadpool_info()} == {1}
    torch.set_num_threads(before)


def test_what_computes_in_float32_on_a_gpu_does_so_in_convolutions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    prepare(None)
    assert not torch.backends.cudnn.allow_tf32


def test_cuda_alone_runs_ahead() -> None:
    assert [runs_ahead(torch.device(kind)) for kind in ("cuda", "mps", "cpu")] == [True, False, False]
