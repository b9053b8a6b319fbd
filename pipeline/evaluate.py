"""How good is a trained model? Metrics over all test pictures, each once."""

from __future__ import annotations

import torch

from pipeline import lineage, storage, tracking
from pipeline.command import model_command
from pipeline.hardware import prepare
from pipeline.params import Model, load_params, used_parameters
from pipeline.records import Record
from pipeline.vae.evaluation import (
    decode,
    evaluate,
    headline,
    latent_metrics,
    mean_and_error,
    prior_noise,
    sliced_wasserstein,
    tight_bound,
)
from pipeline.vae.networks import multiply_adds, parameter_count
from pipeline.weights import load_trained


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("test_images",))
    images = torch.from_numpy(arrays["test_images"]).to(device)
    trained = load_trained(model, device)
    record = Record(
        f"evaluate@{model}", used_parameters(params, "evaluate"), data["name"], lineage.md5(storage.IMAGES),
        weights_md5={model: trained.md5}, trained_with=trained.parameters,
    )  # fmt: skip

    evaluation = evaluate(trained.vae, images, params.evaluate.batch_size, params.seed)
    means, errors = headline(evaluation, trained.parameters["likelihood"])
    settings, key = params.evaluate, "importance_weighted_elbo"
    few = images[: settings.importance_images]
    bounds = tight_bound(trained.vae, few, settings.importance_samples, settings.batch_size, params.seed)
    means[key], errors[key] = mean_and_error(bounds)
    means |= latent_metrics(evaluation, params.seed)
    samples = decode(trained.vae, prior_noise(trained.vae, len(images), params.seed), params.evaluate.batch_size)
    means["samples_sliced_wasserstein"] = sliced_wasserstein(samples, images.cpu(), params.seed)
    size = {"parameters": parameter_count(trained.vae), "multiply_adds": multiply_adds(trained.vae)}

    metrics, dimensions = storage.METRICS / f"{model}.json", storage.CURVES / f"{model}_dimensions.csv"
    storage.save_json(metrics, means | size)
    ranked = evaluation.dimension_rates.argsort(descending=True).tolist()
    storage.save_table(
        dimensions,
        [
            {
                "rank": rank,
                "dimension": dimension,
                "rate": evaluation.dimension_rates[dimension].item(),
                "posterior_mean_variance": evaluation.dimension_variances[dimension].item(),
            }
            for rank, dimension in enumerate(ranked, start=1)
        ],
    )
    record.metrics = {f"test/{name}": value for name, value in means.items()}
    record.standard_errors = {f"test/{name}": value for name, value in errors.items()}
    record.save(inputs=[storage.IMAGES, storage.weights_path(model)], outputs=[metrics, dimensions])
    tracking.sync()


if __name__ == "__main__":
    model_command(main)
