"""Does what the assignment said hold? Five claims, each with its measurements and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import lineage, storage
from pipeline.params import MODELS, PARAMS_FILE, Model, load_yaml
from pipeline.records import CELLS, Record
from pipeline.vae import figures
from pipeline.vae.claims import Claim, Thresholds, architectures, brightness, centre, recipe, smoothness

VERDICTS = storage.REPORTS / "claims.json"
RADIUS, LUMINANCE = storage.FIGURES / "radius.png", storage.FIGURES / "luminance.png"
SEEDS = (0, 1, 2)
SHOWN = [(model, seed) for model in MODELS for seed in SEEDS]  # trainings whose latent space was surveyed
FIGHTS = {  # conv against which cells, and what that makes equal
    "fc": "at equal latent size, epochs and likelihood",
    "fc-longer": "at equal multiply-adds spent (FC trains longer)",
    "fc-narrow": "at equal parameters (FC with fewer hidden units)",
}


class Cells:
    """Numbers of the study's cells, whose models by name stand in study/params.yaml, and which files they came from."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self.read: dict[Path, Any] = {}

    def ratios(self, key: str, above: str, below: str) -> list[float]:
        """A metric of some cells over that of others, a value for each seed."""
        return [self._metrics(f"{above}-{seed}")[key] / self._metrics(f"{below}-{seed}")[key] for seed in SEEDS]

    def surveys(self, model: Model) -> list[dict[str, Any]]:
        return [self._load(f"{model}-{seed}", f"{model}_survey.json") for seed in SEEDS]

    def _metrics(self, cell: str) -> dict[str, float]:
        metrics: dict[str, float] = self._load(cell, f"{self.models[cell]}.json")
        return metrics

    def _load(self, cell: str, name: str) -> Any:
        path = CELLS / cell / storage.METRICS / name
        if path not in self.read:
            self.read[path] = storage.load_json(path)
        return self.read[path]


def main() -> None:
    study = load_yaml(CELLS.with_name(PARAMS_FILE.name))
    limits: Thresholds = study["claims"]
    cells = Cells({name: cell["model"] for name, cell in (study["cells"] | study["assignments"]).items()})
    claims = all_claims(cells, limits)
    weights = {f"{model}-{seed}": CELLS / f"{model}-{seed}" / storage.weights_path(model) for model, seed in SHOWN}
    _, header = storage.load_tensors(weights["fc-0"], ())
    data, used = header["data"], header["parameters"]
    record = Record("claims", {f"claims.{key}": limit for key, limit in limits.items()}, data["name"], data["md5"])
    record.weights_md5 = {cell: lineage.md5(path) for cell, path in weights.items()}

    where = f"{data['name']}, kl_weight {used['kl_weight']:g}, {used['train.epochs']} epochs, seeds 0, 1, 2"
    text = lineage.figure_text(data["md5"], record.weights_md5, record.parameters, lineage.drawing_code("claims"))
    surveys = {model: cells.surveys(model) for model in MODELS}
    radii = {model: [survey["radius"] for survey in surveys[model]] for model in MODELS}
    storage.save_figure(RADIUS, figures.quality_by_radius(f"Pictures by radius: {where}", radii), text)
    walks = {model: [survey["luminance"] for survey in surveys[model]] for model in MODELS}
    storage.save_figure(LUMINANCE, figures.luminance_walks(f"Luminance along walks: {where}", walks), text)

    storage.save_json(VERDICTS, {"data": data, "where": where, "claims": [as_json(claim) for claim in claims]})
    record.save([*sorted(cells.read), *weights.values()], [VERDICTS, RADIUS, LUMINANCE])
    for claim in claims:
        print(f"{claim.number}. {claim.says} {claim.verdict.capitalize()}.")


def all_claims(cells: Cells, limits: Thresholds) -> list[Claim]:
    """The assignment's five claims with what the study measured."""
    surveys = [survey for model in MODELS for survey in cells.surveys(model)]
    key = "samples_frechet"
    return [
        architectures(
            {fight: cells.ratios(key, "conv", cell) for cell, fight in FIGHTS.items()},
            cells.ratios("reconstructions_frechet", "conv", "fc"),
            limits,
        ),
        centre([survey["radius"] for survey in surveys], limits),
        brightness([survey["luminance"] for survey in surveys], limits),
        smoothness([survey["interpolation"] for survey in surveys], limits),
        recipe({model: cells.ratios(key, model, f"assignment-{model}") for model in MODELS}, limits),
    ]


def as_json(claim: Claim) -> dict[str, Any]:
    """A claim for programs."""
    parts = [
        {
            "measure": part.measure,
            "value": part.estimate.value,
            "interval": [part.estimate.low, part.estimate.high],
            "holds_if": part.holds_if,
            "threshold": part.threshold,
            "verdict": part.verdict,
            "decides": part.decides,
        }
        for part in claim.parts
    ]
    return {"number": claim.number, "says": claim.says, "verdict": claim.verdict, "parts": parts}
