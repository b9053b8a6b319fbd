"""How does a GPU take a step without waiting for Python? From a CUDA graph, recorded once and replayed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[..., Tensor]
WARM_UP = 3  # calls before the recorded one: libraries set themselves up, which cannot be recorded


class Replayed:
    """`step`, which takes tensors and gives one, recorded for arguments of the first call's shapes; others run as ever.

    A replay reads and writes the memory that the recording did, so nothing may be replaced that `step` uses, and what
    it gives is overwritten by the next call.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.calls, self.shapes = step, 0, list[torch.Size]()

    def __call__(self, *inputs: Tensor) -> Tensor:  # noqa: D102
        shapes = [values.shape for values in inputs]
        self.shapes = self.shapes or shapes
        if shapes != self.shapes:
            return self.step(*inputs)
        self.calls += 1
        if self.calls <= WARM_UP:
            return warm_up(self.step, inputs)
        if self.calls == WARM_UP + 1:
            self.inputs = [values.clone() for values in inputs]
            self.replay, self.output = record(self.step, self.inputs)
        for own, values in zip(self.inputs, inputs, strict=True):
            own.copy_(values)
        self.replay()
        return self.output


def warm_up(step: Step, inputs: Sequence[Tensor]) -> Tensor:
    """A call beside the stream that other work is on, as PyTorch asks of those before a recording."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        output = step(*inputs)
    torch.cuda.current_stream().wait_stream(aside)
    return output


def record(step: Step, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """What runs all that a call would run on the GPU, and the tensor that it fills; the call itself runs nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(*inputs)
    return graph.replay, output


def is_recording() -> bool:
    """Whether what is asked of the GPU is recorded now."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
