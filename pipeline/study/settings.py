"""What do other settings look like? Strips of images of the cells that were trained with them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline import storage
from pipeline.figures import rows_of_images
from pipeline.params import STUDY_PARAMS, load_params, load_yaml
from pipeline.storage.weights import Trained, load_images, load_weights
from pipeline.tracking import lineage
from pipeline.tracking.records import CELLS, Record
from pipeline.vae.device import prepare
from pipeline.vae.sampling import decode, posterior_means, prior_latents

COLUMNS = 8  # images of each kind in a strip
GROUPS = {"likelihoods": "Two likelihoods", "better": "Settings that were tried"}  # of cells, a figure each


def main() -> None:
    """Draw a figure of each group."""
    device = prepare(load_params().run.threads)
    study = load_yaml(STUDY_PARAMS)
    groups = {group: {name: cell["model"] for name, cell in study[group].items()} for group in GROUPS}
    weights = {
        name: CELLS / name / storage.weights_path(model) for cells in groups.values() for name, model in cells.items()
    }
    (test,), data = load_images("test_images")
    record = Record("settings", {}, data.name, data.md5, data.test_md5)
    record.weights_md5 = {name: storage.md5(path) for name, path in weights.items()}
    code, figures = lineage.code_hash("settings"), []
    for group, cells in groups.items():
        trained = {name: load_weights(weights[name], device) for name in cells}
        figure = rows_of_images(f"{GROUPS[group]}: {data.name}", strips(trained, test[:COLUMNS]))
        figures.append(storage.FIGURES / f"{group}.png")
        md5s = {name: record.weights_md5[name] for name in cells}
        storage.save_figure(figures[-1], figure, lineage.figure_text(data.md5, md5s, {}, code, data.test_md5))
    record.save([*storage.IMAGES, *weights.values()], figures)


def strips(trained: Mapping[str, Trained], images: Tensor) -> dict[str, list[tuple[str, Tensor]]]:
    """Reconstructions of the same images [N, 3, 32, 32] and samples from the same noise, a row for each model."""
    count = len(images)
    found = {"reconstructions": [("test", images)], "prior samples": [("", torch.full_like(images, 255))]}
    for label, model in trained.items():
        found["reconstructions"].append((label, decode(model.vae, posterior_means(model.vae, images))))
        found["prior samples"].append((label, decode(model.vae, prior_latents(model.vae, count, seed=0))))
    return found
