"""What did the experiments on theory find? Their numbers over seeds, figures, and strips of images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from matplotlib.figure import Figure
from torch import Tensor

from pipeline import storage
from pipeline.figures import plots, rows_of_images
from pipeline.metrics.intervals import Estimate, geometric_mean, mean_share, over_draws
from pipeline.metrics.latents import encoded, mixture_latents
from pipeline.params import STUDY_PARAMS, Estimator, Measure, Model, Survey, load_params, load_yaml, used_parameters
from pipeline.storage.weights import Trained, load_images, load_weights
from pipeline.study.settings import COLUMNS, strips
from pipeline.tracking import lineage
from pipeline.tracking.records import CELLS, Record
from pipeline.vae.device import prepare
from pipeline.vae.images import generator
from pipeline.vae.sampling import decode, posterior_means, prior_latents

ANSWERS = storage.REPORTS / "theory.json"
MEASURES: Sequence[Measure] = ("bound", "sampling", "smoothness")
COUNTS = ("active_units", "steps")  # their means have no interval
# Numbers that are shares, with the settings of the survey that say of how many.
SHARES = {"prior_outside": "images"}

Numbers = dict[str, Any]
Rows = Sequence[Numbers]  # one for each training
Strips = dict[str, list[tuple[str, Tensor]]]


def main() -> None:
    """Write reports/theory.json and its figures."""
    params = load_params()
    device = prepare(params.run.threads)
    study = load_yaml(STUDY_PARAMS)
    sweep, sweep_fc, autoencoders = study["sweep"], study["sweep_fc"], study["autoencoders"]
    surveyed = sweep | sweep_fc | autoencoders
    files = {name: metrics_path(name, "survey", cell["model"]) for name, cell in surveyed.items()}
    files |= {name: metrics_path(name, "gradients") for name in study["gradients"]}
    found = {name: storage.load_json(path) for name, path in files.items()}
    rows, rows_fc = (
        [flat(found[name]) | {"kl_weight": cell["set"]["kl_weight"]} for name, cell in cells.items()]
        for cells in (sweep, sweep_fc)
    )
    codes, gradients = [flat(found[name]) for name in autoencoders], by_seed(study["gradients"], found)
    in_strips = [name for name, cell in (sweep | autoencoders).items() if cell["set"]["seed"] == 0]
    models = {name: cell["model"] for name, cell in (surveyed | study["gradients"]).items()}
    kept = [*sweep, *sweep_fc, *in_strips, *study["gradients"]]
    weights = {name: CELLS / name / storage.weights_path(models[name]) for name in kept}
    trained = {name: load_weights(weights[name], device) for name in in_strips}
    (train, test), data = load_images("train_images", "test_images")
    settings, used = params.survey, used_parameters(params, "survey")
    record = Record("answers", used, data.name, data.md5, data.test_md5)
    record.weights_md5 = {name: storage.md5(path) for name, path in weights.items()}

    length = f"{next(iter(trained.values())).parameters['train.epochs']} epochs"
    where = f"{data.name}, conv, {length}"
    estimated = next(iter(study["gradients"].values()))["set"]
    weighted = {name: model for name, model in trained.items() if name in sweep}
    compared = {name: m for name, m in trained.items() if name in autoencoders or m.parameters["kl_weight"] == 1}
    known = [known_rows(seed) for seed in gradients]
    elbos = {name: [seed[name]["vae"]["elbo"] for seed in gradients] for name in get_args(Estimator)}
    epochs = f"{data.name}, conv, epochs: {estimated['train.epochs']}"
    by_weight = weight_strips(list(weighted.values()), test)
    by_code = code_strips(list(compared.values()), train, test, settings)
    drawn: list[tuple[str, Iterable[str], Figure]] = [  # name, trainings that it shows, figure
        ("kl_weights", sweep | sweep_fc, plots.kl_weights(f"By kl_weight: {data.name}, {length}", rows, rows_fc)),
        ("smoothness", sweep, plots.smoothness(f"Smoothness by kl_weight: {where}", rows, 1 / (settings.steps - 1))),
        ("estimators", study["gradients"], plots.estimators(f"Estimators of gradients: {epochs}", known, elbos)),
        ("kl_weights_images", weighted, rows_of_images(f"Images by kl_weight: {where}", by_weight)),
        ("autoencoder", compared, rows_of_images(f"An autoencoder, and the VAE with kl_weight 1: {where}", by_code)),
    ]

    code, figures = lineage.code_hash("answers"), []
    for name, shown, figure in drawn:
        figures.append(storage.FIGURES / f"{name}.png")
        md5s = {cell: record.weights_md5[cell] for cell in shown}
        storage.save_figure(figures[-1], figure, lineage.figure_text(data.md5, md5s, used, code, data.test_md5))
    content = {"data": {"name": data.name, "md5": data.md5}, "where": where, "test_images": len(test)}
    content["settings"] = settings.model_dump()
    content["learning_rate"] = estimated["train.learning_rate"]
    storage.save_json(ANSWERS, content | numbers({"sweep": rows, "sweep_fc": rows_fc}, codes, gradients, settings))
    record.save([*storage.IMAGES, *files.values(), *weights.values()], [ANSWERS, *figures])


def by_seed(cells: Mapping[str, Numbers], found: Mapping[str, Numbers]) -> list[dict[str, Numbers]]:
    """What was found in cells, by the estimator that each has, for each of their seeds."""
    seeds: dict[int, dict[str, Numbers]] = {}
    for name, cell in cells.items():
        seeds.setdefault(cell["set"]["seed"], {})[cell["set"]["gradients.estimator"]] = found[name]
    return list(seeds.values())


def known_rows(estimators: Mapping[str, Numbers]) -> list[dict[str, float]]:
    """Relative variances in the known model by estimator, a row for each latent size."""
    columns = zip(*(found["known_model"] for found in estimators.values()), strict=True)
    return [
        {"latent_dim": cells[0]["latent_dim"]}
        | {name: cell["variance"] for name, cell in zip(estimators, cells, strict=True)}
        for cells in columns
    ]


def flat(survey: Mapping[str, Numbers]) -> Numbers:
    """The numbers of a survey's measures that theory asks about."""
    return {name: value for measure in MEASURES for name, value in survey.get(measure, {}).items()}


def metrics_path(cell: str, stage: str, model: Model = "conv") -> Path:
    """What a stage measured in a cell."""
    return CELLS / cell / storage.METRICS / f"{model}_{stage}.json"


def numbers(
    sweeps: Mapping[str, Rows], autoencoders: Rows, gradients: Sequence[dict[str, Numbers]], settings: Survey
) -> Numbers:
    """Means over seeds with their intervals, of a row for each training."""
    known = zip(*(known_rows(seed) for seed in gradients), strict=True)
    return {
        **{name: by_kl_weight(rows, settings) for name, rows in sweeps.items()},
        "autoencoder": over_seeds(autoencoders, settings),
        "known_model": [over_seeds(rows, settings) for rows in known],
        "estimators": {
            name: over_seeds([counted(seed[name]["vae"]) for seed in gradients], settings)
            for name in get_args(Estimator)
        },
    }


def by_kl_weight(sweep: Rows, settings: Survey) -> list[Numbers]:
    """Means over the seeds of each kl_weight."""
    weights = sorted({row["kl_weight"] for row in sweep})
    return [over_seeds([row for row in sweep if row["kl_weight"] == weight], settings) for weight in weights]


def counted(training: Numbers) -> Numbers:
    """The numbers of a training with an estimator, its steps counted."""
    return {key: value for key, value in training.items() if key != "elbo"} | {"steps": len(training["elbo"])}


def over_seeds(rows: Sequence[Mapping[str, float]], settings: Survey) -> Numbers:
    """Mean of each number over trainings that differ in seed, with its interval where there are several."""
    result: Numbers = {"trainings": len(rows)}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key in ("latent_dim", "kl_weight"):
            result[key] = values[0]
        elif len(values) == 1 or key in COUNTS:
            result[key] = {"value": fmean(values), "interval": None}
        else:
            mean = mean_over_seeds(key, values, settings)
            result[key] = {"value": mean.value, "interval": [mean.low, mean.high], "method": mean.method}
    return result


def mean_over_seeds(key: str, values: Sequence[float], settings: Survey) -> Estimate:
    """As suits what a number can be: a share, what adds up, of which elbo and kernel can be negative, or positive."""
    if key in SHARES:
        return mean_share(values, getattr(settings, SHARES[key]))
    if key.endswith(("elbo", "rate", "distortion", "kernel")) or 0 in values:  # which has no log
        return over_draws(values, least=-math.inf if key.endswith(("elbo", "kernel")) else 0.0)
    return geometric_mean(values)


def weight_strips(trained: Sequence[Trained], test: Tensor) -> Strips:
    """For each kl_weight images of the same test images and of the same draws from the prior."""
    in_order = sorted(trained, key=lambda model: float(model.parameters["kl_weight"]))
    return strips({f"{model.parameters['kl_weight']:g}": model for model in in_order}, test[:COLUMNS])


def code_strips(trained: Sequence[Trained], train: Tensor, test: Tensor, settings: Survey) -> Strips:
    """Reconstructions and samples of an autoencoder and of a VAE."""
    panels: Strips = {}
    for model in trained:
        vae = model.vae
        codes = encoded(vae, train, generator(0, "encoded training images"))
        latents = {
            "reconstructions": posterior_means(vae, test[:COLUMNS]),
            "from N(0, I)": prior_latents(vae, COLUMNS, seed=0),
            "from a Gaussian": mixture_latents(codes, 1, COLUMNS, seed=0),
            "from a mixture": mixture_latents(codes[: settings.images], settings.components, COLUMNS, seed=0),
        }
        panels["autoencoder" if vae.architecture.posterior == "point" else "VAE"] = [
            ("test", test[:COLUMNS]),
            *((label, decode(vae, points)) for label, points in latents.items()),
        ]
    return panels
