"""What do the models make of a latent that one chooses? The page that `make explore` serves: FC beside conv."""

from __future__ import annotations

import math
from collections.abc import Callable

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator
from torch import Tensor
from torchvision.utils import make_grid

from pipeline.errors import InputError
from pipeline.params import MODELS, Model
from pipeline.sources.folder import decode_image
from pipeline.storage.weights import Trained
from pipeline.tools import explore
from pipeline.tracking.store import StoredRun
from pipeline.vae.sampling import decode, posterior_means, prior_latents

NAMES: dict[Model, str] = {"fc": "fully connected", "conv": "convolutional"}
WIDTH = 160  # of a shown image, in pixels of the page
MLFLOW = "http://127.0.0.1:5050"  # where make ui serves

load_model = st.cache_resource(hash_funcs={StoredRun: lambda run: run.id})(explore.load_model)
load_images = st.cache_resource(explore.load_images)


@st.cache_resource(hash_funcs={StoredRun: lambda run: run.id})
def walk_of(run: StoredRun, md5: str, kind: str) -> Tensor:
    """A walk through a model's latent space, whose directions some test images tell."""
    images = load_images(md5)[: explore.WALKED]
    return explore.walk(kind, posterior_means(load_model(run).vae, images), images)


def main() -> None:
    st.set_page_config("VAE explorer", layout="wide")
    st.title("Explore latent space")
    try:
        chosen, md5 = choose()
        test = load_images(md5)
        samples, rebuilt, paths, walks = st.tabs(["Samples", "Reconstruction", "Between two images", "Walk"])
        with samples:
            sample(chosen)
        with rebuilt:
            reconstruct(chosen, test)
        with paths:
            go_between(chosen, test)
        with walks:
            walk(chosen, md5)
    except InputError as error:
        st.error(str(error))


def choose() -> tuple[dict[Model, StoredRun], str]:
    """A run of each model, trained on the same images, and the md5 of these."""
    there = explore.runs_with_models()
    name = st.sidebar.selectbox("Data", list(there))
    chosen: dict[Model, StoredRun] = {}
    for model in MODELS:
        runs = there[name][model]
        first = runs.index(explore.newest(runs))
        run = st.sidebar.selectbox(NAMES[model].capitalize(), runs, first, format_func=explore.label, key=model)
        st.sidebar.markdown(f"[{run.name}]({MLFLOW}/{run.page}) in MLflow (`make ui`)")
        chosen[model] = run
    md5s = {run.tags.get("data.md5", "") for run in chosen.values()}
    if len(md5s) > 1:
        raise InputError("the two runs were trained on different images; choose two of the same")
    return chosen, md5s.pop()


@st.fragment
def sample(chosen: dict[Model, StoredRun]) -> None:
    seed = st.slider("seed", 0, 99, 0)
    side_by_side(chosen, lambda trained, _: decode(trained.vae, prior_latents(trained.vae, 16, seed)))


@st.fragment
def reconstruct(chosen: dict[Model, StoredRun], test: Tensor) -> None:
    number = st.number_input("test image", 0, len(test) - 1, 0)
    upload = st.file_uploader("or an image of your own, made 32 x 32; it stays on this machine")
    image = test[number : number + 1]
    if upload is not None:
        try:
            image = torch.from_numpy(decode_image(upload.getvalue(), upload.name)[None].copy())
        except InputError as error:
            st.error(str(error))
    st.caption("original")
    show(image, st.container())
    side_by_side(chosen, lambda trained, _: decode(trained.vae, posterior_means(trained.vae, image)))


@st.fragment
def go_between(chosen: dict[Model, StoredRun], test: Tensor) -> None:
    left, right = st.columns(2)
    ends = [
        left.number_input("from test image", 0, len(test) - 1, 0),
        right.number_input("to test image", 0, len(test) - 1, 1),
    ]
    share = st.slider("share of the way", 0.0, 1.0, 0.5, 0.01)
    on_arc = st.radio("path", ["line", "arc"], horizontal=True) == "arc"
    show(test[ends], st.container())

    def image(trained: Trained, _: Model) -> Tensor:
        path = explore.between(posterior_means(trained.vae, test[ends]), on_arc)
        return decode(trained.vae, path[at(share)])

    side_by_side(chosen, image)


@st.fragment
def walk(chosen: dict[Model, StoredRun], md5: str) -> None:
    kind = st.radio("direction", explore.WALKS, horizontal=True)
    share = st.slider("A", 0.0, 1.0, 0.0, 0.01)
    side_by_side(chosen, lambda trained, model: decode(trained.vae, walk_of(chosen[model], md5, kind)[at(share)]))


def at(share: float) -> slice:
    """Where on a path a share of the way is."""
    step = round(share * (explore.STEPS - 1))
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


main()
