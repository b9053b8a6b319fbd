"""What do the models make of a latent that one chooses? The page that `make explore` serves: FC beside conv."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator
from torch import Tensor
from torchvision.utils import make_grid

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.paths import luminance_direction, spherical
from pipeline.params import MODELS, NAMES, Model
from pipeline.sources.folder import decode_image
from pipeline.storage.weights import Trained, load_weights
from pipeline.tools.ui import runs_with_models
from pipeline.tracking.lineage import StoredRun
from pipeline.tracking.store import model_file
from pipeline.vae.sampling import along, decode, interpolate, posterior_means, principal_directions, prior_latents

WALKS = ("all ones", "principal direction", "luminance")
STEPS = 101  # of a path, from 0 to 1
WALKED = 2000  # images whose encodings tell directions
WIDTH = 160  # of a shown image, in pixels of the page
MLFLOW = "http://127.0.0.1:5050"  # where make ui serves


@st.cache_resource(hash_funcs={StoredRun: lambda run: run.id})
def walk_of(run: StoredRun, md5: str, kind: str) -> Tensor:
    """A walk through a model's latent space, whose directions some validation images tell."""
    images = load_images(md5)[:WALKED]
    return path_of(kind, posterior_means(load_model(run).vae, images), images)


def main() -> None:
    """Draw the page; a mistake is a message on it."""
    st.set_page_config("VAE explorer", layout="wide")
    st.title("Explore latent space")
    try:
        chosen, md5 = choose()
        held_out = load_images(md5)
        samples, rebuilt, paths, walks = st.tabs(["Samples", "Reconstruction", "Between two images", "Walk"])
        with samples:
            sample(chosen)
        with rebuilt:
            reconstruct(chosen, held_out)
        with paths:
            go_between(chosen, held_out)
        with walks:
            walk(chosen, md5)
    except InputError as error:
        st.error(str(error))


def choose() -> tuple[dict[Model, StoredRun], str]:
    """A run of each model, trained on the same images, and the md5 of these."""
    there = runs_with_models()
    name = st.sidebar.selectbox("Data", list(there))
    chosen: dict[Model, StoredRun] = {}
    for model in MODELS:
        runs = there[name][model]
        first = runs.index(newest(runs))
        run = st.sidebar.selectbox(NAMES[model].capitalize(), runs, first, format_func=label, key=model)
        st.sidebar.markdown(f"[{run.name}]({MLFLOW}/{run.page}) in MLflow (`make ui`)")
        chosen[model] = run
    md5s = {run.tags.get("data.md5", "") for run in chosen.values()}
    if len(md5s) > 1:
        raise InputError("the two runs were trained on different images; choose two of the same")
    return chosen, md5s.pop()


@st.fragment
def sample(chosen: dict[Model, StoredRun]) -> None:
    """Prior draws."""
    seed = st.slider("seed", 0, 99, 0)
    side_by_side(chosen, lambda trained, _: decode(trained.vae, prior_latents(trained.vae, 16, seed)))


@st.fragment
def reconstruct(chosen: dict[Model, StoredRun], held_out: Tensor) -> None:
    """A validation image, or one of the user's, encoded and decoded."""
    number = st.number_input("validation image", 0, len(held_out) - 1, 0)
    upload = st.file_uploader("or an image of your own, made 32 x 32; it stays on this machine")
    image = held_out[number : number + 1]
    if upload is not None:
        try:
            image = torch.from_numpy(decode_image(upload.getvalue(), upload.name)[None].copy())
        except InputError as error:
            st.error(str(error))
    st.caption("original")
    show(image, st.container())
    side_by_side(chosen, lambda trained, _: decode(trained.vae, posterior_means(trained.vae, image)))


@st.fragment
def go_between(chosen: dict[Model, StoredRun], held_out: Tensor) -> None:
    """A place on the path between two validation images."""
    left, right = st.columns(2)
    ends = [
        left.number_input("from validation image", 0, len(held_out) - 1, 0),
        right.number_input("to validation image", 0, len(held_out) - 1, min(1, len(held_out) - 1)),
    ]
    share = st.slider("share of the way", 0.0, 1.0, 0.5, 0.01)
    on_arc = st.radio("path", ["line", "arc"], horizontal=True) == "arc"
    show(held_out[ends], st.container())

    def image(trained: Trained, _: Model) -> Tensor:
        path = between(posterior_means(trained.vae, held_out[ends]), on_arc)
        return decode(trained.vae, path[at(share)])

    side_by_side(chosen, image)


@st.fragment
def walk(chosen: dict[Model, StoredRun], md5: str) -> None:
    """A place on a walk along one direction; the images with that md5 tell it."""
    kind = st.radio("direction", WALKS, horizontal=True)
    share = st.slider("A", 0.0, 1.0, 0.0, 0.01)
    side_by_side(chosen, lambda trained, model: decode(trained.vae, walk_of(chosen[model], md5, kind)[at(share)]))


def at(share: float) -> slice:
    """Where on a path a share of the way is."""
    step = round(share * (STEPS - 1))
    return slice(step, step + 1)


def side_by_side(chosen: dict[Model, StoredRun], images: Callable[[Trained, Model], Tensor]) -> None:
    """What each model makes, FC to the left."""
    for column, (model, run) in zip(st.columns(2), chosen.items(), strict=True):
        column.caption(f"{NAMES[model]}: {run.name}")
        show(images(load_model(run), model), column)


def show(images: Tensor, place: DeltaGenerator) -> None:
    """One image, or a grid of several; uint8 [N, 3, 32, 32]."""
    columns = math.ceil(len(images) ** 0.5)
    grid = make_grid(images, nrow=columns, padding=1 if len(images) > 1 else 0, pad_value=255)
    place.image(grid.permute(1, 2, 0).numpy(), width=WIDTH * min(columns, 2), output_format="PNG")


@st.cache_resource(hash_funcs={StoredRun: lambda run: run.id})
def load_model(run: StoredRun) -> Trained:
    """The network of a run, from its MLflow model."""
    return load_weights(model_file(run, "artifacts/weights.safetensors"), torch.device("cpu"))


@st.cache_resource
def load_images(md5: str) -> Tensor:
    """Validation images of the data with that md5, uint8 [N, 3, 32, 32]: prepared here, or in DVC's cache."""
    path = storage.main_checkout() / storage.TRAIN_IMAGES
    if not path.exists() or storage.md5(path) != md5:
        path = cache() / md5[:2] / md5[2:]
    if not path.exists():
        raise InputError(f"found no images with md5 {md5[:8]} in {storage.TRAIN_IMAGES} or DVC's cache; run dvc repro")
    arrays, _ = storage.load_tensors(path, ("validation_images",))
    return torch.from_numpy(arrays["validation_images"])


def cache() -> Path:
    """The folder of DVC's cache that has files by their md5."""
    root = storage.main_checkout()
    asked = [sys.executable, "-m", "dvc", "cache", "dir"]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    return root / (found.stdout.strip() or ".dvc/cache") / "files/md5"


def between(ends: Tensor, on_arc: bool) -> Tensor:
    """Latents from one end to the other, both of [2, latent_dim]: [STEPS, latent_dim]."""
    path = spherical if on_arc else interpolate
    return path(ends[:1], ends[1:], STEPS)[0]


def path_of(kind: str, means: Tensor, images: Tensor) -> Tensor:
    """Latents of A from 0 to 1, [STEPS, latent_dim]: z = A·1, or 6 deviations along a direction of posterior means.

    `means` [N, latent_dim] are those of images [N, 3, 32, 32].
    """
    if kind == WALKS[0]:
        return torch.linspace(0, 1, STEPS).unsqueeze(1) * torch.ones(1, means.shape[1])
    direction = principal_directions(means, 1)[0][0] if kind == WALKS[1] else luminance_direction(means, images)
    return along(means, direction, STEPS)


def label(run: StoredRun) -> str:
    """How a run is called where one is chosen."""
    return f"{run.name}, {run.started[:16].replace('T', ' ')} UTC"


def newest(runs: Sequence[StoredRun]) -> StoredRun:
    """The newest run that is not of the study, if there is one."""
    return next((run for run in runs if not run.tags.get("study.cell")), runs[0])


if __name__ == "__main__":
    main()
