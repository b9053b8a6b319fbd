"""What is the assignment's own recipe? Its networks, loss and loop, on the same images.

Adam at a constant 1e-3, batches of 128, ReLU, sigmoid then binary cross-entropy plus KL, no validation split, no flips.
The cells of the study say for how many epochs: the assignment's own are 10 fully connected, 5 convolutional.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from pipeline import storage
from pipeline.params import Model, load_params
from pipeline.storage.weights import load_images, save_state
from pipeline.tracking.records import Record
from pipeline.vae.device import describe, prepare
from pipeline.vae.images import batches, generator

LATENT_DIM = 128
NOTEBOOK = {"fc": (10, 1844.9), "conv": (5, 1827.6)}  # its epochs, and the training loss that it printed of the last
BATCH_SIZE, LEARNING_RATE = 128, 1e-3

Output = tuple[Tensor, Tensor, Tensor]  # reconstructions [B, 3, 32, 32], posterior means and log variances [B, 128]


def main(model: Model) -> None:
    """Train the assignment's own network, with the loss of the last epoch in the header of its weights."""
    params = load_params()
    device = prepare(params.run.threads)
    images, data = load_images("train_images", "validation_images")
    parameters = {
        "recipe": "assignment", "kl_weight": 1.0, "likelihood": "bernoulli", "latent_dim": LATENT_DIM,
        "seed": params.seed, "train.epochs": params.train.epochs, "train.batch_size": BATCH_SIZE,
        "train.learning_rate": LEARNING_RATE,
    }  # fmt: skip
    record = Record(f"train@{model}", parameters, data.name, data.md5)
    record.environment = {"device": describe(device), "threads": str(torch.get_num_threads())}
    whole = torch.cat(images).to(device)  # the assignment held none out
    network, losses = train_assignment(model, whole, params.train.epochs, params.seed)
    header = {"data": {"name": data.name, "md5": data.md5}, "training_loss": losses[-1]}
    save_state(assignment_path(model), network.state_dict(), header)
    record.weights_md5 = {model: storage.md5(assignment_path(model))}
    record.save([storage.TRAIN_IMAGES], [assignment_path(model)])


def assignment_path(model: Model) -> Path:
    """Where the weights of the assignment's own network lie, relative to the cell."""
    return storage.weights_path("assignment").with_name(f"{model}.safetensors")


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
