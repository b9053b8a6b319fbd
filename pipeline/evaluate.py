"""How good is a trained model? Metrics over all test images, each once, and distances, with their intervals."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor

from pipeline import storage
from pipeline.metrics.bound import Evaluation, evaluate_images, headline, image_sets, latent_metrics, tight_bound
from pipeline.metrics.distances import frechet_distance, measure_distances, over_sets
from pipeline.metrics.features import EfficientNetLite0, Featurize
from pipeline.metrics.intervals import over_images
from pipeline.metrics.latents import linear_probe
from pipeline.params import Model, load_params, used_parameters
from pipeline.storage.weights import load_feature_network, load_images, load_inception, load_trained
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.networks import multiply_adds, parameter_count
from pipeline.vae.sampling import posterior_means


def main(model: Model) -> None:
    """Measure one trained model on the test images, and what it makes against the validation images."""
    params = load_params()
    device = prepare(params.run.threads)
    inception = load_inception(params.evaluate.inception_weights, device)
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    (train, labels, validation, test, test_labels), data = load_images(
        "train_images", "train_labels", "validation_images", "test_images", "test_labels"
    )
    trained = load_trained(model, device)
    used = used_parameters(params, "evaluate")
    record = Record(f"evaluate@{model}", used, data.name, data.md5, data.test_md5, {model: trained.md5})

    on_device, settings, seed = test.to(device), params.evaluate, params.seed
    evaluation = evaluate_images(trained.vae, on_device, settings.batch_size, seed)
    estimates = {name: over_images(values, seed) for name, values in evaluation.per_image.items()}
    name, estimates[name] = headline(estimates["elbo"], trained.parameters["likelihood"])
    few = on_device[: settings.importance_images]
    bounds = tight_bound(trained.vae, few, settings.importance_samples, settings.batch_size, seed)
    estimates["importance_weighted_elbo"] = over_images(bounds, seed)

    train_means, means = posterior_means(trained.vae, train), posterior_means(trained.vae, test)
    if len(labels.unique()) > 1:
        correct = linear_probe(train_means, labels, means, test_labels)
        estimates["linear_probe_accuracy"] = over_images(correct, seed)
    else:
        print("note: all training images are of one class, so there is no linear probe")
    values = latent_metrics(evaluation, seed)

    if len(train) < settings.mixture_components:
        print(f"note: the mixture has {len(train)} components, as many as there are training images")
    sets = image_sets(trained.vae, train_means, len(validation), settings, seed)
    for name, draws in measure(sets, validation, featurize, inception, settings.pairwise_images).items():
        if len(draws) > 1:
            estimates[name] = over_sets(name.rpartition("_")[2], draws, settings.pairwise_images)
        else:
            values[name] = draws[0]

    values |= {name: estimate.value for name, estimate in estimates.items()}
    size = {"parameters": parameter_count(trained.vae), "multiply_adds": multiply_adds(trained.vae)}
    metrics, dimensions = storage.METRICS / f"{model}.json", storage.CURVES / f"{model}_dimensions.csv"
    storage.save_json(metrics, values | size)
    storage.save_table(dimensions, ranked_dimensions(evaluation))
    record.metrics = {f"test/{name}": value for name, value in values.items()}
    record.standard_errors = {f"test/{name}": estimate.standard_error for name, estimate in estimates.items()}
    record.intervals = {f"test/{name}": (estimate.low, estimate.high) for name, estimate in estimates.items()}
    record.save([*storage.IMAGES, storage.weights_path(model)], [metrics, dimensions])
    sync.update_store()


def measure(
    sets: Iterable[tuple[str, Tensor]], real: Tensor, featurize: Featurize, inception: Featurize | None, pairwise: int
) -> Mapping[str, list[float]]:
    """Distances of named sets of images from real ones, all uint8, as "<set>_<distance>", a value for each draw.

    With the FID network also its Fréchet distance, of each set's first draw.
    """
    found: dict[str, list[float]] = defaultdict(list)
    reference = featurize(real)
    reference_fid = inception(real) if inception else None
    for name, images in sets:
        if inception and reference_fid is not None and f"{name}_fid" not in found:
            found[f"{name}_fid"] = [frechet_distance(inception(images), reference_fid)]
        for distance, value in measure_distances(featurize(images), reference, pairwise).items():
            found[f"{name}_{distance}"].append(value)
    return found


def ranked_dimensions(evaluation: Evaluation) -> list[dict[str, float]]:
    """A row for each latent dimension, the largest mean rate first."""
    variances = evaluation.posteriors.mean.var(0)
    return [
        {
            "rank": rank,
            "dimension": dimension,
            "rate": evaluation.dimension_rates[dimension].item(),
            "posterior_mean_variance": variances[dimension].item(),
        }
        for rank, dimension in enumerate(evaluation.dimension_rates.argsort(descending=True).tolist(), start=1)
    ]
