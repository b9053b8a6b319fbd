"""On what does a stage compute? The best device at hand, repeatably."""

import ctypes
import os

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

SPARE = 0.5  # share of a GPU's free memory that images may take; the rest is for networks and batches


def prepare(threads: int | None) -> torch.device:
    """CUDA or Apple's MPS when present, else the CPU with `threads` threads (null: PyTorch's choice, one per core).

    Deterministic algorithms are demanded, so the same inputs give the same bits on the same machine and threads.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory that it has not written, and filling it takes a sixth of a convolutional step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for convolutions, and theirs alone, is TF32
    _keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
        threadpool_limits(threads)  # those of NumPy, SciPy and scikit-learn
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def describe(device: torch.device) -> str:
    """The kind of device, and of a GPU its name, since others may give other bits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def has_bfloat16(device: torch.device) -> bool:
    """Whether products of matrices in bfloat16 are native to the device; emulated they are ten times slower."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def runs_ahead(device: torch.device) -> bool:
    """Whether steps are queued on the device, so that reading a number from it means waiting for all of them."""
    return device.type == "cuda"


def place(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images on the device if they fit there, else where they are: batches go to the device one by one."""
    if device.type == "cuda" and images.nbytes > SPARE * torch.cuda.mem_get_info(device)[0]:
        return images
    return images.to(device)


def _keep_freed_memory() -> None:
    """Stop glibc returning freed pages: otherwise each step's gradients page-fault."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(mmap_threshold, 32 << 20)  # the most that it allows
        libc.mallopt(trim_threshold, 512 << 20)
