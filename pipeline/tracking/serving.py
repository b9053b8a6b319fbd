"""How does a trained VAE answer others? As an MLflow model: this file is its code, the safetensors file its weights."""

import hashlib
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.storage.weights import load_weights
from pipeline.vae.sampling import decode, posterior_means, prior_latents

Array = np.ndarray[Any, Any]

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("numpy", "pydantic", "pyyaml", "safetensors", "torch")
TASKS = {  # and what each takes
    "reconstruct": "images, uint8 [N, 3, 32, 32]",  # gives images
    "encode": "images, uint8 [N, 3, 32, 32]",  # gives posterior means, float32 [N, latent_dim]
    "decode": "latents, float32 [N, {}]",  # gives images
    "sample": "one positive integer, how many to draw",  # gives images decoded from that many prior draws
}
# What goes in depends on the task, so the signature admits any array and `predict` checks it.
SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype("O"), (-1,))]),
    outputs=Schema([TensorSpec(np.dtype("O"), (-1,))]),
    params=ParamSchema([ParamSpec("task", DataType.string, "reconstruct"), ParamSpec("seed", DataType.long, 0)]),
)


class ServedVAE(PythonModel):
    """predict(array, params={"task": ..., "seed": ...}) for the tasks of TASKS; seed is that of the prior draws."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights; MLflow calls it once."""
        self.trained = load_weights(Path(context.artifacts["weights"]), torch.device("cpu"))

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # MLflow wants the plain class
        params: dict[str, Any] | None = None,
    ) -> Array:
        """The task's answer; MlflowException, one line, for what the task does not take."""
        params = params or {}
        task, vae, array = params.get("task", "reconstruct"), self.trained.vae, _unpacked(np.asarray(model_input))
        if task not in TASKS:
            raise _refusal(f"task: found {task!r}, expected one of {', '.join(TASKS)}")
        if task == "sample":
            _require(array.size == 1 and array.dtype.kind in "iu" and array.item() > 0, task, array)
            return decode(vae, prior_latents(vae, int(array.item()), params.get("seed", 0))).numpy()
        if task == "decode":
            latent_dim = vae.architecture.latent_dim
            _require(array.shape[1:] == (latent_dim,) and array.dtype.kind in "fiu", task, array, latent_dim)
            return decode(vae, torch.from_numpy(array.astype(np.float32))).numpy()
        _require(array.shape[1:] == (3, 32, 32) and array.dtype == np.uint8, task, array)
        means = posterior_means(vae, torch.from_numpy(array))
        return means.numpy() if task == "encode" else decode(vae, means).numpy()


def save_served(folder: Path, weights: Path, run_id: str, model_id: str) -> None:
    """The MLflow model of a weights file, in a new folder; of this project it holds the code that it needs."""
    with tempfile.TemporaryDirectory() as temporary:
        package = ship_code(Path(temporary))
        sys.path.insert(0, temporary)  # MLflow runs the code as it saves it
        try:
            save_model(
                str(folder),
                python_model=str(package / Path(__file__).relative_to(PACKAGE)),
                artifacts={"weights": str(weights)},
                code_paths=[str(package)],
                pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
                signature=SIGNATURE,
                input_example=np.zeros((1, 3, 32, 32), np.uint8),
                mlflow_model=Model(run_id=run_id, model_id=model_id),
            )
        finally:
            sys.path.remove(temporary)


def ship_code(folder: Path) -> Path:
    """A copy of this package below `folder`, named by its content: it clashes with no other package, nor version."""
    sources = {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    digest = hashlib.sha256("\0".join(f"{path}\0{source}" for path, source in sources.items()).encode())
    name = f"cifar10_vae_{digest.hexdigest()[:12]}"
    for path, source in sources.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        renamed = re.sub(rf"^(\s*(?:from|import)) {PACKAGE.name}\b", rf"\1 {name}", source, flags=re.MULTILINE)
        (folder / name / path).write_text(renamed, encoding="utf-8")
    return folder / name


def _unpacked(array: Array) -> Array:
    """Arrays that came as JSON have no dtype of their own: whole numbers of an image's shape and range are uint8."""
    if array.dtype == object:
        try:
            array = np.array(array.tolist())
        except ValueError:
            raise _refusal("found rows of unequal length, expected one array") from None
    if array.dtype == np.int64 and array.ndim == 4 and array.size and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array


def _require(fits: bool, task: str, array: Array, latent_dim: int = 0) -> None:
    if not fits:
        expected = TASKS[task].format(latent_dim)
        raise _refusal(f"task {task}: found {array.dtype} {list(array.shape)}, expected {expected}")


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


set_model(ServedVAE())
