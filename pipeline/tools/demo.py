"""What does this project do? The whole pipeline on built-in shapes, in minutes, with nothing to download."""

import shutil
from pathlib import Path

from pipeline import storage
from pipeline.params import MODELS
from pipeline.tracking import sync
from pipeline.tracking.experiments import export, forget_experiment, run_experiment
from pipeline.tracking.records import beside, load_records, record_path

DEMO = Path("demo")
DATA_NAME = "shapes"
OVERRIDES = (
    "data.source=shapes",
    f"data.name={DATA_NAME}",
    "data.path=null",
    "data.url=null",
    "data.validation=1000",
    "train.epochs=3",  # of many small steps: after few, the convolutional network is behind and shows blobs
    "train.batch_size=32",
    "train.learning_rate=0.003",
    "train.warmup_epochs=0.3",
    "train.kl_warmup_epochs=0.2",
    "evaluate.draws=1",
    "evaluate.importance_images=200",
    "evaluate.mixture_images=2000",
    "evaluate.pairwise_images=1000",
)
SHOWN = ("elbo", "bits_per_dim", "psnr", "ssim", "active_units")


def main() -> None:
    """Make demo/ and the runs of shapes in MLflow anew."""
    revision = run_experiment("demo", OVERRIDES)
    shutil.rmtree(DEMO, ignore_errors=True)
    export(f"{revision}:{storage.REPORTS}", DEMO)
    export(revision, DEMO, "dvc.lock")
    forget_experiment("demo")
    remove_other_results(DEMO)
    sync.update_store(DEMO / storage.RUNS.name)

    print(f"\nFigures: {DEMO / storage.FIGURES.name}/\nTest images:")
    for model in MODELS:
        metrics = storage.load_json(DEMO / storage.METRICS.name / f"{model}.json")
        print(f"  {model:4}  " + "  ".join(f"{name} {metrics[name]:.5g}" for name in SHOWN if name in metrics))
    print("\nWhat next?")
    shown = DEMO / storage.FIGURES.name / "conv_samples.png"
    for question, command in (
        ("Which run is behind an image?", f".venv/bin/python -m pipeline trace {shown}"),
        ("How do the runs compare?", "make ui"),
        ("What is in latent space?", "make explore"),
        ("And on CIFAR-10? It takes half an hour.", "make repro"),
    ):
        print(f"  {question:40}  {command}")


def remove_other_results(root: Path) -> None:
    """Remove from a copy of reports/ what no record of the demo lists: the published study, for one."""
    folder = root / storage.RUNS.name
    made = [record for record in load_records(folder) if record.data_name == DATA_NAME]
    kept = {beside(folder, path) for record in made for path in (record_path(record.stage), *map(Path, record.outputs))}
    for path in sorted(root.rglob("*"), reverse=True):  # files come before their folder
        if path.is_file() and path not in kept | {root / "dvc.lock"}:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
