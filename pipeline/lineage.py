"""What identifies a result? Content hashes of what went in, written into the picture that came out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).parent
# What a stage's figures depend on: the modules among its deps.
DRAWING: Mapping[str, tuple[str, ...]] = {
    "render": (
        "features",
        "hardware",
        "render",
        "storage",
        "vae/classifier",
        "vae/distributions",
        "vae/figures",
        "vae/generation",
        "vae/geometry",
        "vae/images",
        "vae/networks",
        "vae/priors",
        "weights",
    ),
    "yardstick": (
        "features",
        "hardware",
        "storage",
        "vae/calibration",
        "vae/classifier",
        "vae/distances",
        "vae/estimates",
        "vae/figures",
        "vae/images",
        "yardstick",
    ),
    "answers": (
        "answers",
        "hardware",
        "storage",
        "vae/autoencoder",
        "vae/distributions",
        "vae/estimates",
        "vae/figures",
        "vae/fitting",
        "vae/generation",
        "vae/gradients",
        "vae/images",
        "vae/latents",
        "vae/networks",
        "vae/objective",
        "vae/priors",
        "vae/spaces",
        "vae/theory_figures",
        "weights",
    ),
    "claims": (
        "claims",
        "storage",
        "vae/claims",
        "vae/distributions",
        "vae/estimates",
        "vae/figures",
        "vae/generation",
        "vae/geometry",
        "vae/images",
        "vae/networks",
        "vae/priors",
    ),
}
# What the bits of trained weights depend on: the modules among the deps of `train`.
TRAINING = (
    "hardware",
    "storage",
    "train",
    "vae/distributions",
    "vae/fitting",
    "vae/images",
    "vae/networks",
    "vae/objective",
    "vae/priors",
    "vae/symptoms",
    "weights",
)


def main_checkout() -> Path:
    """Root of the user's checkout, also where DVC runs a stage in a temporary copy of it (DVC_ROOT tells)."""
    return Path(os.environ.get("DVC_ROOT") or PACKAGE.parent).resolve()


def md5(path: Path) -> str:
    """The hash by which DVC names a file."""
    return _digest(path, "md5")


def sha256(path: Path) -> str:
    return _digest(path, "sha256")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def code_hash(modules: Iterable[Path]) -> str:
    """One sha256 over the sources of several modules, independent of their order and of where the checkout is."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(module.name.encode() + b"\0" + module.read_bytes() + b"\0")
    return digest.hexdigest()


def drawing_code(stage: str) -> str:
    """Hash of the code behind a stage's figures."""
    return code_hash(PACKAGE / f"{module}.py" for module in DRAWING[stage])


def training_code() -> str:
    """Hash of the code behind trained weights."""
    return code_hash(PACKAGE / f"{module}.py" for module in TRAINING)


def figure_text(
    data_md5: str, weights_md5: Mapping[str, str], parameters: Mapping[str, Any], code: str
) -> dict[str, str]:
    """PNG text chunks: only what is the same for the same result, so no run, time, host or commit."""
    return {
        "data.md5": data_md5,
        **{f"{model}.weights.md5": md5 for model, md5 in weights_md5.items()},
        "parameters": json.dumps(parameters, sort_keys=True),
        "code.sha256": code,
    }


def locked(lock: str) -> dict[str, str]:
    """The md5 of every output that the text of a dvc.lock states, by path."""
    stages = (yaml.safe_load(lock) or {}).get("stages", {}).values()
    return {output["path"]: output["md5"] for stage in stages for output in stage.get("outs", ())}


def commit() -> tuple[str | None, bool | None]:
    """The commit that is checked out and whether code or pipeline differ from it; None, None without git.

    Parameters do not count as a difference, since a record states them; nor do results, which a stage rewrites.
    """
    try:
        head = _git("rev-parse", "HEAD")
        return head, bool(_git("status", "--porcelain", "--", ":/pipeline", ":/dvc.yaml", ":/study/*.yaml"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()
