"""On what does a stage compute? The best device at hand, repeatably."""

from __future__ import annotations

import os

import torch


def prepare(threads: int | None) -> torch.device:
    """CUDA or Apple's MPS when present, else the CPU with `threads` threads (null: PyTorch's choice, one per core).

    Deterministic algorithms are demanded, so the same inputs give the same bits on the same machine and threads.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(True)
    if threads is not None:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
