"""What does the assignment's own recipe reach on the same images? Its networks and loop, measured like ours.

Adam at a constant 1e-3, batches of 128, ReLU, sigmoid then binary cross-entropy plus KL, no validation split, no flips.
The cells of the study say for how many epochs: the assignment's own are 10 fully connected, 5 convolutional.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from pipeline import storage
from pipeline.metrics.distances import measure_distances
from pipeline.metrics.features import EfficientNetLite0
from pipeline.params import Model, load_params
from pipeline.storage.weights import load_feature_network, load_images, save_state
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import batches, generator, to_uint8

LATENT_DIM = 128
NOTEBOOK = {"fc": (10, 1844.9), "conv": (5, 1827.6)}  # its epochs, and the training loss that it printed of the last
BATCH_SIZE, LEARNING_RATE = 128, 1e-3

Output = tuple[Tensor, Tensor, Tensor]  # reconstructions [B, 3, 32, 32], posterior means and log variances [B, 128]


def main(model: Model) -> None:
    """Train and measure the assignment's own network; both stages of it, with a record each."""
    params = load_params()
    device = prepare(params.run.threads)
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    images, data = load_images("train_images", "validation_images", "test_images")
    train, validation, test = (part.to(device) for part in images)
    parameters = {
        "recipe": "assignment", "kl_weight": 1.0, "likelihood": "bernoulli", "latent_dim": LATENT_DIM,
        "seed": params.seed, "train.epochs": params.train.epochs, "train.batch_size": BATCH_SIZE,
        "train.learning_rate": LEARNING_RATE,
    }  # fmt: skip
    record = Record(f"train@{model}", parameters, data.name, data.md5)
    whole = torch.cat([train, validation])  # the assignment held none out
    network, losses = train_assignment(model, whole, params.train.epochs, params.seed)
    weights = storage.weights_path("assignment").with_name(f"{model}.safetensors")
    save_state(weights, network.state_dict(), {"data": {"name": data.name, "md5": data.md5}})
    record.weights_md5 = {model: storage.md5(weights)}
    record.save([storage.TRAIN_IMAGES], [weights])

    pairwise, metrics = params.evaluate.pairwise_images, storage.METRICS / f"{model}.json"
    used = {"seed": params.seed, "evaluate.pairwise_images": pairwise}
    evaluated = Record(f"evaluate@{model}", used, data.name, data.md5, data.test_md5, record.weights_md5)
    noise = torch.randn(len(validation), LATENT_DIM, generator=generator(params.seed, "prior samples"))
    found = measure_distances(featurize(decode_assignment(network, noise)), featurize(validation), pairwise)
    values = {
        "assignment_loss": assignment_losses(network, test, params.seed).mean().item(),
        "training_loss": losses[-1],
    }
    values |= {f"samples_{name}": value for name, value in found.items()}
    storage.save_json(metrics, values)
    evaluated.metrics = {f"test/{name}": value for name, value in values.items()}
    evaluated.save([*storage.IMAGES, weights], [metrics])
    sync.update_store()


class AssignmentVAE(nn.Module):
    """The assignment's VAE, "fc" or "conv"."""

    def __init__(self, model: str) -> None:
        super().__init__()
        if model == "fc":
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3072, 768), nn.ReLU())
            self.decoder = nn.Sequential(
                nn.Linear(LATENT_DIM, 768), nn.ReLU(), nn.Linear(768, 3072), nn.Sigmoid(), nn.Unflatten(1, (3, 32, 32))
            )
        else:
            self.encoder = nn.Sequential(
                nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
                nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Linear(LATENT_DIM, 128 * 4 * 4), nn.ReLU(), nn.Unflatten(1, (128, 4, 4)),
                nn.ConvTranspose2d(128, 64, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.ReLU(),
                nn.ConvTranspose2d(32, 3, 3, 2, 1, 1), nn.Sigmoid(),
            )  # fmt: skip
        width = 768 if model == "fc" else 128 * 4 * 4
        self.mean, self.log_var = nn.Linear(width, LATENT_DIM), nn.Linear(width, LATENT_DIM)

    def forward(self, images: Tensor, noise: Tensor) -> Output:
        """`noise` [B, 128] is from N(0, I)."""
        hidden = self.encoder(images)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        latents = mean + noise * torch.exp(0.5 * log_var)
        return self.decoder(latents), mean, log_var


def assignment_loss(output: Output, images: Tensor) -> Tensor:
    """Binary cross-entropy + KL of each image, nats, [B]."""
    reconstructions, mean, log_var = output
    cross_entropy = F.binary_cross_entropy(reconstructions, images, reduction="none").flatten(1).sum(1)
    return cross_entropy - 0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)


def train_assignment(model: str, images: Tensor, epochs: int, seed: int) -> tuple[AssignmentVAE, list[float]]:
    """A network trained on uint8 images [N, 3, 32, 32], and each epoch's mean loss while its weights moved, nats."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AssignmentVAE(model).to(images.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    shuffle, noise = generator(seed, "shuffle"), generator(seed, "training noise")
    losses = []
    for _ in trange(epochs, desc=f"assignment {model}", unit=" epochs", disable=None):
        total = 0.0
        for batch in batches(images, BATCH_SIZE, shuffle):
            eps = torch.randn(len(batch), LATENT_DIM, generator=noise).to(batch.device)
            optimizer.zero_grad()
            loss = assignment_loss(network(batch, eps), batch).sum()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(images))
    return network.eval(), losses


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
