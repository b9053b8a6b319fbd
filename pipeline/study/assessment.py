"""How good is what the assignment's own recipe trained? Its prior samples, measured like ours, and its own loss."""

import torch
from torch import Tensor

from pipeline import storage
from pipeline.metrics.distances import measure_distances
from pipeline.metrics.features import EfficientNetLite0
from pipeline.params import Model, load_params
from pipeline.storage.weights import load_feature_network, load_images
from pipeline.study.assignment import LATENT_DIM, AssignmentVAE, assignment_loss, assignment_path
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import batches, generator, to_uint8


def main(model: Model) -> None:
    """Measure the trained network of a cell."""
    params = load_params()
    device = prepare(params.run.threads)
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    (validation, test), data = load_images("validation_images", "test_images")
    network, training_loss = load_assignment(model, device)
    weights, pairwise = assignment_path(model), params.evaluate.pairwise_images
    used = {"seed": params.seed, "evaluate.pairwise_images": pairwise}
    weights_md5: dict[str, str] = {model: storage.md5(weights)}
    record = Record(f"evaluate@{model}", used, data.name, data.md5, data.test_md5, weights_md5)

    noise = torch.randn(len(validation), LATENT_DIM, generator=generator(params.seed, "prior samples"))
    found = measure_distances(featurize(decode_assignment(network, noise)), featurize(validation), pairwise)
    losses = assignment_losses(network, test.to(device), params.seed)
    values = {"assignment_loss": losses.mean().item(), "training_loss": training_loss}
    values |= {f"samples_{name}": value for name, value in found.items()}
    metrics = storage.METRICS / f"{model}.json"
    storage.save_json(metrics, values)
    record.metrics = {f"test/{name}": value for name, value in values.items()}
    record.save([*storage.IMAGES, weights], [metrics])
    sync.update_store()


def load_assignment(model: Model, device: torch.device) -> tuple[AssignmentVAE, float]:
    """The network of a cell and the loss of its last epoch, nats per image."""
    arrays, header = storage.load_tensors(assignment_path(model))
    network = AssignmentVAE(model)
    with storage.reading(assignment_path(model), "are no weights of the assignment's network"):
        network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        training_loss = float(header["training_loss"])
    return network.to(device).eval(), training_loss


@torch.no_grad()
def assignment_losses(network: AssignmentVAE, images: Tensor, seed: int) -> Tensor:
    """assignment_loss of each uint8 image [N, 3, 32, 32], one posterior draw each, nats, float64 [N]."""
    noise = torch.randn(len(images), LATENT_DIM, generator=generator(seed, "evaluation noise")).split(500)
    losses = [
        assignment_loss(network(batch, eps.to(batch.device)), batch).cpu().double()
        for batch, eps in zip(batches(images, 500), noise, strict=True)
    ]
    return torch.cat(losses)


@torch.no_grad()
def decode_assignment(network: AssignmentVAE, latents: Tensor) -> Tensor:
    """Images of latents [N, 128], uint8 [N, 3, 32, 32] on the CPU."""
    device = network.mean.weight.device
    return torch.cat([to_uint8(network.decoder(part.to(device))).cpu() for part in latents.split(500)])
