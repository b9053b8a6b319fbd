"""What do the two compared VAEs look like? The same posterior, prior and likelihoods around two kinds of layers."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.params import Model, Params, Precision
from pipeline.vae.distributions import Bernoulli, DiagonalGaussian, DiscretizedGaussian, Likelihood
from pipeline.vae.images import CHANNELS, DIMENSIONS, SIDE
from pipeline.vae.priors import build_prior

INITIAL_STD = 0.2  # of the calibrated likelihood: about that of CIFAR-10 pixels around their mean image
POINT = -30.0  # log of a standard deviation too small to move a latent: a Gaussian that is a point to float32


@dataclass(frozen=True)
class Architecture:
    """What rebuilds a network: `sizes` are hidden widths (fc) or channels (conv), from the pixels to the latents."""

    model: Model
    sizes: tuple[int, ...]
    latent_dim: int
    likelihood: Literal["gaussian", "bernoulli"]
    prior_components: int  # 0: N(0, I)
    posterior: Literal["gaussian", "point"] = "gaussian"  # point: an autoencoder, which uses the means alone

    def as_dict(self) -> dict[str, Any]:
        """For a header; without the default posterior, which headers do not state since they are older than it."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("posterior", "gaussian")}


def architecture(params: Params, model: Model) -> Architecture:
    """What params.yaml says of a model's network."""
    sizes = params.networks.fc.hidden if model == "fc" else params.networks.conv.channels
    return Architecture(
        model, tuple(sizes), params.latent_dim, params.likelihood, params.prior_components, params.posterior
    )


class VAE(nn.Module):
    """Encoder and decoder with q(z|x) a diagonal Gaussian, a prior p(z) and p(x|z) a likelihood over images."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.precision: Precision = "float32"  # of products and convolutions while it is trained; else always float32
        build = {"fc": fully_connected, "conv": convolutional}[architecture.model]
        self.encoder, self.decoder = build(architecture.sizes, architecture.latent_dim)
        if architecture.likelihood == "gaussian":
            self.likelihood_log_std = nn.Parameter(torch.tensor(INITIAL_STD).log())
        self.prior = build_prior(architecture.prior_components, architecture.latent_dim)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """Approximate posterior of images [B, 3, 32, 32] in 0..1."""
        with self._products():
            encoded = self.encoder(2 * images - 1)
        mean, logit_std = encoded.to(images.dtype).chunk(2, dim=1)  # each [B, latent_dim]
        if self.architecture.posterior == "point":
            return DiagonalGaussian(mean, torch.full_like(mean, POINT))
        # Deviations stay below 1: unbounded, that of an odd image can be so wide that its distortion explodes.
        return DiagonalGaussian(mean, F.logsigmoid(logit_std))

    def decode(self, latents: Tensor) -> Likelihood:
        """Likelihood of images given latents [B, latent_dim]."""
        with self._products():
            decoded = self.decoder(latents)
        pixels = decoded.to(latents.dtype)  # [B, 3, 32, 32]
        if self.architecture.likelihood == "gaussian":
            return DiscretizedGaussian(0.5 + pixels, self.likelihood_log_std)
        return Bernoulli(pixels)

    def _products(self) -> torch.autocast:
        bfloat16 = self.training and self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16)


def build_vae(architecture: Architecture, seed: int) -> VAE:
    """A VAE whose initial weights depend on `seed` alone; the CPU's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VAE(architecture).to(memory_format=torch.channels_last)  # 1.5 times faster convolutions on a CPU


def parameter_count(vae: VAE) -> int:
    """How many numbers gradients train; a mixture prior is fitted without them."""
    return sum(parameter.numel() for parameter in vae.parameters())


def multiply_adds(vae: VAE) -> int:
    """Multiply-adds of encoding and decoding one image: half of the floating-point operations that PyTorch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vae.decode(vae.encode(torch.zeros(1, CHANNELS, SIDE, SIDE, device=vae.device)).mean)
    return int(counter.get_total_flops()) // 2


class GELU(nn.Module):
    """GELU of features [B, C] or images [B, C, H, W].

    Channels come last in memory, which oneDNN, twice as fast, is only given when they are the last dimension too.
    """

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        return F.gelu(features.movedim(1, -1)).movedim(-1, 1)


def fully_connected(hidden: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Encoder 3072 -> hidden -> 2 latent_dim (mean, logit of std), decoder latent_dim -> hidden reversed -> 3072."""
    encoder: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise((DIMENSIONS, *hidden)):
        encoder += [nn.Linear(width_in, width_out), GELU()]
    encoder.append(nn.Linear(hidden[-1], 2 * latent_dim))
    decoder: list[nn.Module] = []
    for width_in, width_out in pairwise((latent_dim, *reversed(hidden))):
        decoder += [nn.Linear(width_in, width_out), GELU()]
    decoder += [nn.Linear(hidden[0], DIMENSIONS), nn.Unflatten(1, (CHANNELS, SIDE, SIDE))]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def convolutional(channels: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Encoder of stride-2 convolutions down to SIDE / 2^len(channels), then linear; the decoder mirrors it."""
    encoder: list[nn.Module] = []
    for channels_in, channels_out in pairwise((CHANNELS, *channels)):
        encoder += [nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1), GELU()]
    side = SIDE >> len(channels)
    features = channels[-1] * side * side
    encoder += [nn.Flatten(), nn.Linear(features, 2 * latent_dim)]
    decoder: list[nn.Module] = [
        nn.Linear(latent_dim, features),
        GELU(),
        nn.Unflatten(1, (channels[-1], side, side)),
    ]
    for channels_in, channels_out in pairwise(reversed(channels)):
        decoder += [nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1), GELU()]
    decoder.append(nn.ConvTranspose2d(channels[0], CHANNELS, 3, stride=2, padding=1, output_padding=1))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
