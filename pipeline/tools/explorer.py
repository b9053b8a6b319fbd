"""What do the models make of a latent that one chooses? One HTML page that holds both of them: FC beside conv."""

import base64
import gzip
import subprocess
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jinja2 import FileSystemLoader
from markupsafe import Markup
from safetensors.torch import save
from torch import Tensor, nn

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.paths import luminance_direction
from pipeline.params import MODELS, NAMES, Model
from pipeline.storage.weights import Trained, load_weights
from pipeline.study.report import TEMPLATES
from pipeline.tools.ui import bring_own_runs
from pipeline.tracking import store
from pipeline.tracking.lineage import StoredRun
from pipeline.tracking.runs import one_line
from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import rate_per_dimension
from pipeline.vae.priors import GaussianMixture
from pipeline.vae.sampling import along, principal_directions

PACKAGE, FOLDER = Path(__file__).parents[1], Path(__file__).parent / "templates"
ENCODED = 2000  # validation images whose encodings tell directions
SHOWN = 20  # of them in the page
DIRECTIONS = 5  # principal ones
BLOCK = 128  # weights that share a scale
LINES = {  # how the line of the source begins that a part of the page is
    "encode": ("vae/objective.py", "likelihood = vae.decode(posterior.sample("),
    "draw": ("vae/distributions.py", "return self.mean + "),
    "rate": ("vae/objective.py", "return posterior.divergences("),
    "line": ("vae/sampling.py", "return start.unsqueeze(1)"),
    "arc": ("metrics/paths.py", "weights = torch.sin("),
    "sample": ("vae/sampling.py", "return vae.prior.sample("),
    "walk": ("vae/sampling.py", "return center + "),
    "ones": ("render.py", "diagonal = "),
}


def main(fc: str, conv: str, out: Path, opens: bool) -> None:
    """Write the page of two runs, by the beginnings of their ids, and open it."""
    bring_own_runs()
    runs = choose(store.stored_runs(), {"fc": fc, "conv": conv})
    trained = {model: load_model(run) for model, run in runs.items()}
    names = {model: f"{run.name}, run {run.id[:8]}" for model, run in runs.items()}
    with storage.replacing(out) as partial:
        partial.write_text(render_page(trained, names, load_images(trained["fc"].data_md5)), encoding="utf-8")
    print(f"Explore: {out} ({out.stat().st_size / 1e6:.1f} MB)", flush=True)
    if opens:
        webbrowser.open(out.resolve().as_uri())


def choose(runs: Sequence[StoredRun], asked: Mapping[Model, str]) -> dict[Model, StoredRun]:
    """The newest runs of both models on the same images, of `runs`, oldest first; `asked` are beginnings of their ids.

    The study's runs count where they are asked for.
    """
    pairs: dict[str, dict[Model, StoredRun]] = {}  # by the md5 of the images
    for run in reversed(runs):
        for model, start in asked.items():
            counts = run.id.startswith(start) if start else "study.cell" not in run.tags
            if counts and run.params.get("model") == model and "model_id" in run.tags:
                pairs.setdefault(run.tags["data.md5"], {}).setdefault(model, run)
        if pair := next((pair for pair in pairs.values() if len(pair) == len(MODELS)), None):
            return {model: pair[model] for model in MODELS}
    for model, start in asked.items():
        if start and not any(model in pair for pair in pairs.values()):
            raise InputError(f"--{model}: MLflow has no run {start} with a model of {model}; make ui lists the runs")
    raise InputError("MLflow has no FC and conv trained on the same images; type make demo or make repro first")


def load_model(run: StoredRun) -> Trained:
    """The network of a run, from its MLflow model."""
    try:
        path = store.model_file(run, "artifacts/weights.safetensors")
    except store.ERRORS as error:
        raise InputError(f"run {run.id}: its weights cannot be read ({one_line(error)})") from None
    return load_weights(path, torch.device("cpu"))


def load_images(md5: str) -> Tensor | None:
    """Validation images, uint8 [N, 3, 32, 32], of the file with that md5: here, or in DVC's cache; None without."""
    path = storage.main_checkout() / storage.TRAIN_IMAGES
    if not path.exists() or storage.md5(path) != md5:
        path = cache() / md5[:2] / md5[2:]
    if not path.exists():
        return None
    arrays, _ = storage.load_tensors(path, ("validation_images",))
    return torch.from_numpy(arrays["validation_images"][:ENCODED])


def cache() -> Path:
    """The folder of DVC's cache that has files by their md5."""
    root = storage.main_checkout()
    asked = [sys.executable, "-m", "dvc", "cache", "dir"]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    return root / (found.stdout.strip() or ".dvc/cache") / "files/md5"


def render_page(trained: Mapping[Model, Trained], runs: Mapping[Model, str], images: Tensor | None) -> str:
    """The page of two models, with what their runs are called; some images tell directions, the first ones show."""
    files: dict[str, Mapping[str, Tensor]] = {model: tensors_of(trained[model].vae, images) for model in MODELS}
    files["shelf"] = {} if images is None else {"images": images[:SHOWN]}
    template = TEMPLATES.overlay(loader=FileSystemLoader(FOLDER)).get_template("explorer.html.j2")
    return template.render(
        names=NAMES,
        trained=trained,
        runs=runs,
        models={model: description(trained[model].vae) | {"name": NAMES[model]} for model in MODELS},
        files={name: Markup(embedded(tensors)) for name, tensors in files.items()},
        directions=min(len(files[model].get("walks.steps", ())) for model in MODELS),
        lines={part: source_line(*place) for part, place in LINES.items()},
        scripts=[Markup((FOLDER / name).read_text(encoding="utf-8")) for name in ("network.js", "explorer.js")],
    )


def description(vae: VAE) -> dict[str, Any]:
    """What the page's program needs besides the tensors: the kind of each layer, with the name of its weights."""
    layers = {
        half: [(type(layer).__name__, f"{half}.{name}") for name, layer in vae.get_submodule(half).named_children()]
        for half in ("encoder", "decoder")
    }
    return asdict(vae.architecture) | layers


@torch.no_grad()
def tensors_of(vae: VAE, images: Tensor | None) -> dict[str, Tensor]:
    """The network in 8 bits, its prior, and what uint8 images [N, 3, 32, 32] tell of its latent space."""
    tensors: dict[str, Tensor] = {}
    for name, module in vae.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            weight, bias = module.parameters()
            by_output = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
            tensors |= {f"{name}.bias": bias, **in_8_bits(f"{name}.weight", by_output)}
    marginals = vae.prior.marginals()
    tensors |= {"prior.mean": marginals.mean, "prior.log_std": marginals.log_std}
    if isinstance(vae.prior, GaussianMixture):  # whose component k has the latents means[k] + scales[k] noise
        scales = torch.linalg.inv(vae.prior.factors).flatten(0, 1)  # [components * latent_dim, latent_dim]
        shares = vae.prior.log_weights.exp().cumsum(0)
        tensors |= {"prior.shares": shares, "prior.means": vae.prior.means, **in_8_bits("prior.scales", scales)}
    if images is not None:
        posterior = vae.encode(to_float(images))
        directions = [luminance_direction(posterior.mean, images)]
        directions += principal_directions(posterior.mean, DIRECTIONS)[0]
        ends = [along(posterior.mean, direction, 2, deviations=1) for direction in directions]  # each [2, latent_dim]
        tensors["walks.steps"] = torch.stack([(end - start) / 2 for start, end in ends])
        tensors["walks.center"] = posterior.mean.mean(0)
        tensors["rates"] = rate_per_dimension(posterior, vae.prior).mean(0)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def in_8_bits(name: str, weights: Tensor) -> dict[str, Tensor]:
    """Weights as int8 times a scale for each BLOCK of them."""
    blocks = F.pad(weights.flatten(), (0, -weights.numel() % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1).clamp_min(1e-12) / 127
    whole = (blocks / scale.unsqueeze(1)).round().to(torch.int8)
    return {name: whole.flatten()[: weights.numel()], f"{name}.scale": scale}


def embedded(tensors: Mapping[str, Tensor]) -> str:
    """A safetensors file as text for a page: compressed, in base64."""
    return base64.b64encode(gzip.compress(save(dict(tensors)), mtime=0)).decode()


def source_line(module: str, start: str) -> tuple[str, str]:
    """Where the one line is that begins so, and the line."""
    path = PACKAGE / module
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ((number, line),) = [(number, line.strip()) for number, line in lines if line.strip().startswith(start)]
    return f"{path.relative_to(PACKAGE.parent)}:{number}", line
