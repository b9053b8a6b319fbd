"""What does the assignment's own recipe reach on the same pictures? Its networks and loop, written anew.

Adam at a constant 1e-3, batches of 128, ReLU, sigmoid then binary cross-entropy plus KL, no validation split, no flips:
10 epochs fully connected, 5 convolutional.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_DIM = 128
EPOCHS = {"fc": 10, "conv": 5}


class FullyConnectedVAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3072, 768)
        self.mean = nn.Linear(768, LATENT_DIM)
        self.log_var = nn.Linear(768, LATENT_DIM)
        self.decoder = nn.Sequential(nn.Linear(LATENT_DIM, 768), nn.ReLU(), nn.Linear(768, 3072), nn.Sigmoid())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.hidden(images.flatten(1)))
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        return self.decoder(latents).view_as(images), mean, log_var


class ConvolutionalVAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(), nn.Flatten()),
        )
        self.mean = nn.Linear(128 * 4 * 4, LATENT_DIM)
        self.log_var = nn.Linear(128 * 4 * 4, LATENT_DIM)
        self.decoder = nn.Sequential(
            *(nn.Linear(LATENT_DIM, 128 * 4 * 4), nn.ReLU(), nn.Unflatten(1, (128, 4, 4))),
            *(nn.ConvTranspose2d(128, 64, 3, 2, 1, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 3, 3, 2, 1, 1), nn.Sigmoid()),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encoder(images)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        return self.decoder(latents), mean, log_var


def assignment_loss(output: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """Binary cross-entropy + KL, nats, summed over the batch."""
    reconstructions, mean, log_var = output
    cross_entropy = F.binary_cross_entropy(reconstructions, images, reduction="sum")
    return cross_entropy - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())


def train_and_test(model: nn.Module, epochs: int, train: Tensor, test: Tensor) -> float:
    """Mean assignment_loss over all float test images [N, 3, 32, 32], one posterior draw each, after training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        for indices in torch.randperm(len(train)).split(128):
            optimizer.zero_grad()
            loss = assignment_loss(model(train[indices]), train[indices])
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return float(sum(assignment_loss(model(batch), batch).item() for batch in test.split(500))) / len(test)
