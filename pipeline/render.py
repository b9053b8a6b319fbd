"""What do the models show? Every figure of the report, each carrying in its PNG what it was made from."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from pipeline import figures, storage
from pipeline.figures import plots
from pipeline.metrics.features import EfficientNetLite0, Featurize
from pipeline.metrics.paths import luminance_direction
from pipeline.params import MODELS, Render, load_params, used_parameters
from pipeline.storage.weights import Trained, load_feature_network, load_images, load_trained
from pipeline.tracking import lineage, sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.sampling import along, decode, interpolate, posterior_means, principal_directions, prior_latents

WALK_IMAGES = 11  # of the assignment's z = A * 1, A from 0 to 1 in 10 steps; odd, so that walks meet the centre


def main() -> None:
    """Draw every figure."""
    params = load_params()
    device = prepare(params.run.threads)
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    (train, test, labels), data = load_images("train_images", "test_images", "test_labels")
    train, test = train.to(device), test.to(device)
    models = [load_trained(model, device) for model in MODELS]
    curves = {model: storage.load_table(storage.CURVES / f"{model}.csv") for model in MODELS}
    dimensions = {model: storage.load_table(storage.CURVES / f"{model}_dimensions.csv") for model in MODELS}
    record = Record("render", used_parameters(params, "render"), data.name, data.md5, data.test_md5)
    record.weights_md5 = {trained.model: trained.md5 for trained in models}

    both = f"{data.name}, {_shared_kl_weight(models)}"
    drawn = dict(decoded_figures(models, test, params.render, params.seed))
    features = featurize(train)  # it takes most of this stage's time
    panels = {
        trained.model: neighbours(trained, featurize, train, features, params.render, params.seed) for trained in models
    }
    title = f"Prior samples (left) and the training images nearest to them in EfficientNet's features: {both}"
    drawn["neighbours"] = figures.rows_of_images(title, panels)
    maps = {trained.model: plane(posterior_means(trained.vae, test)) for trained in models}
    title = f"Posterior means of test images, their two principal directions: {both}"
    drawn["latent_map"] = plots.latent_map(title, maps, labels, data.classes)
    drawn["training_curves"] = plots.training_curves(f"Training on {both}", curves)
    rates = {model: columns["rate"] for model, columns in dimensions.items()}
    title = f"Rate of each latent dimension, against the prior's marginal: {both}"
    drawn["rate_per_dimension"] = plots.rate_per_dimension(title, rates)

    paths, code = [], lineage.code_hash("render")
    for name, figure in drawn.items():
        shown = [trained for trained in models if name == f"{trained.model}_samples"] or models
        weights_md5 = {str(trained.model): trained.md5 for trained in shown}
        text = lineage.figure_text(data.md5, weights_md5, record.parameters, code, data.test_md5)
        paths.append(storage.FIGURES / f"{name}.png")
        storage.save_figure(paths[-1], figure, text)
    curve_files = [storage.CURVES / f"{model}{kind}.csv" for model in MODELS for kind in ("", "_dimensions")]
    weights = [storage.weights_path(model) for model in MODELS]
    record.save([*storage.IMAGES, *weights, *curve_files], paths)
    sync.update_store()
    print(f"{len(paths)} figures in {storage.FIGURES}/")


def decoded_figures(models: list[Trained], test: Tensor, settings: Render, seed: int) -> Iterator[tuple[str, Figure]]:
    """The figures that show decoded images, by name; test is uint8 [N, 3, 32, 32]."""
    data = models[0].data_name
    both = f"{data}, {_shared_kl_weight(models)}"
    for trained in models:
        samples = decode(trained.vae, prior_latents(trained.vae, settings.samples, seed))
        yield f"{trained.model}_samples", figures.samples(f"Prior samples: {trained.title}, {data}", samples)

    shown = test[: settings.reconstructions]
    rows = [("test images", shown.cpu())]
    rows += [(trained.model, decode(trained.vae, posterior_means(trained.vae, shown))) for trained in models]
    yield "reconstructions", figures.rows_of_images(f"Reconstructions of the posterior mean: {both}", {"": rows})

    panels = {trained.model: interpolations(trained, test, settings, seed) for trained in models}
    yield "interpolation", figures.rows_of_images(f"Interpolation between two latents: {both}", panels)

    panels = {trained.model: walks(trained, test, settings.traversal_directions) for trained in models}
    title = (
        f"Walks through latent space: {both}\n"
        "z = A·1: A from 0 (left) to 1 (right); directions: from -3 to 3 deviations of the posterior means"
    )
    yield "latent_space", figures.rows_of_images(title, panels)


def interpolations(trained: Trained, test: Tensor, settings: Render, seed: int) -> list[tuple[str, Tensor]]:
    """Rows of images on lines between two prior draws, as in the assignment, and between two test images."""
    count = min(settings.interpolation_rows, len(test) // 2)
    rows = []
    for kind, ends in (
        ("prior draws", prior_latents(trained.vae, 2 * count, seed)),
        ("test images", posterior_means(trained.vae, test[: 2 * count])),
    ):
        lines = interpolate(ends[:count], ends[count:], settings.interpolation_steps)
        rows += [(kind, decode(trained.vae, line)) for line in lines]
    return rows


def walks(trained: Trained, test: Tensor, directions: int) -> list[tuple[str, Tensor]]:
    """Rows of images: the direction of luminance, the assignment's z = A * 1, the posterior means' principal ones."""
    means = posterior_means(trained.vae, test)
    diagonal = torch.linspace(0, 1, WALK_IMAGES).view(-1, 1) * torch.ones(1, trained.vae.architecture.latent_dim)
    brighter = along(means, luminance_direction(means, test.cpu()), WALK_IMAGES)
    principal, shares = principal_directions(means, directions)
    rows = [("luminance", decode(trained.vae, brighter)), ("z = A·1", decode(trained.vae, diagonal))]
    for number, (direction, share) in enumerate(zip(principal, shares.tolist(), strict=True), start=1):
        line = along(means, direction, WALK_IMAGES)
        rows.append((f"direction {number}\n{share:.0%} of variance", decode(trained.vae, line)))
    return rows


def plane(means: Tensor) -> Tensor:
    """Posterior means [N, latent_dim] seen along their two principal directions, [N, 2]; of one, on a line."""
    directions, _ = principal_directions(means, 2)
    seen = (means - means.mean(0)) @ directions.T
    return F.pad(seen, (0, 2 - seen.shape[1]))


def neighbours(
    trained: Trained, featurize: Featurize, train: Tensor, features: Tensor, settings: Render, seed: int
) -> list[tuple[str, Tensor]]:
    """Rows of a prior sample and those images of `train`, uint8 [N, 3, 32, 32], whose `features` are nearest to its."""
    samples = decode(trained.vae, prior_latents(trained.vae, settings.neighbour_rows, seed))
    distances = torch.cdist(featurize(samples), features)
    nearest = distances.topk(min(settings.neighbours, len(train)), largest=False).indices  # [rows, neighbours]
    return [
        ("", torch.cat([sample.unsqueeze(0), train[row.to(train.device)].cpu()]))
        for sample, row in zip(samples, nearest, strict=True)
    ]


def _shared_kl_weight(models: list[Trained]) -> str:
    """kl_weight once where the models share it, else for each."""
    weights = {f"kl_weight {trained.parameters['kl_weight']:g}" for trained in models}
    return weights.pop() if len(weights) == 1 else ", ".join(trained.title for trained in models)
