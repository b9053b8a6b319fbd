"""What does this project do? The whole pipeline on built-in shapes, in minutes, with nothing to download."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.params import MODELS
from pipeline.tools import tables
from pipeline.tracking import sync
from pipeline.tracking.experiments import export_results, forget_experiment, run_experiment
from pipeline.tracking.records import Record, beside

DEMO = Path("demo")
DATA_NAME = "shapes"
OVERRIDES = (
    "data.source=shapes",
    f"data.name={DATA_NAME}",
    "data.path=null",
    "data.url=null",
    "data.validation=1000",
    "train.epochs=5",
)
SHOWN = ("elbo", "bits_per_dim", "psnr", "ssim", "active_units")


def main(arguments: Sequence[str] = ()) -> None:
    argparse.ArgumentParser(prog="python -m pipeline demo", description=__doc__).parse_args(arguments)
    revision = run_experiment("demo", OVERRIDES)
    shutil.rmtree(DEMO, ignore_errors=True)
    export_results(revision, DEMO, reports=".")
    forget_experiment("demo")
    remove_other_results(DEMO)
    sync.update_store(DEMO / storage.RUNS.name)

    print(f"\nFigures: {DEMO / storage.FIGURES.name}/")
    for figure in sorted((DEMO / storage.FIGURES.name).glob("*.png")):
        print(f"  {figure}")
    print("Test images:")
    for model in MODELS:
        metrics = storage.load_json(DEMO / storage.METRICS.name / f"{model}.json")
        print(f"  {model:4}  " + "  ".join(f"{name} {metrics[name]:.5g}" for name in SHOWN if name in metrics))
    print(f"The run behind an image: .venv/bin/python -m pipeline trace {DEMO / storage.FIGURES.name}/conv_samples.png")
    print("Compare the runs in MLflow: make ui")


def remove_other_results(root: Path) -> None:
    """Remove from a copy of reports/ what the demo did not make: the published study, comparisons and yardstick."""
    shutil.rmtree(root / tables.COMPARISONS.name, ignore_errors=True)
    for path in (root / storage.RUNS.name).glob("*.json"):
        record = Record.load(path)
        if record.data_name != DATA_NAME:
            path.unlink()
            for output in map(Path, record.outputs):
                if output.is_relative_to(storage.REPORTS):
                    beside(path.parent, output).unlink(missing_ok=True)
