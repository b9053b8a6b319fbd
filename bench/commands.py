"""How long does a command take to answer? In a fresh clone after its demo, in seconds, the best round first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from bench.many_images import write_images
from bench.processes import ROOT
from pipeline.params import PARAMS_FILE, changed, load_yaml

ROUNDS = 3
IMAGE = "reports/figures/conv_samples.png"
ONE_STEP = {  # of so few images that imports, files, records and MLflow remain
    "data.source": "folder", "data.name": "one-step", "data.path": "data/raw/few", "data.validation": 20,
    "train.epochs": 1, "train.batch_size": 100,
}  # fmt: skip
IMPORTS = "import pipeline.train, pipeline.tracking.runs"


def answer_times() -> dict[str, list[float]]:
    """Seconds of each command, sorted; of the training those beyond its bare imports."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        run(clone, "-m", "pipeline", "demo")
        found = {
            "trace of one image": rounds(lambda: run(clone, "-m", "pipeline", "trace", IMAGE)),
            "trace --all": rounds(lambda: run(clone, "-m", "pipeline", "trace", "--all")),
            "ui until its address": rounds(lambda: until_address(clone)),
        }
        (clone / PARAMS_FILE).write_text(yaml.safe_dump(changed(load_yaml(clone / PARAMS_FILE), ONE_STEP)))
        write_images(clone / str(ONE_STEP["data.path"]), count=120)
        run(clone, "-m", "pipeline", "download")
        found["train, beyond its imports"] = rounds(
            lambda: run(clone, "-m", "pipeline", "train", "fc") - run(clone, "-c", IMPORTS)
        )
        return found


def rounds(measure: Callable[[], float]) -> list[float]:
    return sorted(measure() for _ in range(ROUNDS))


def run(folder: Path, *arguments: str) -> float:
    """Seconds that Python takes in a clone, with the clone's own modules and store."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), check=True, capture_output=True)
    return time.perf_counter() - began


def until_address(folder: Path) -> float:
    """Seconds until `ui` prints where the comparison is."""
    began = time.perf_counter()
    line = [sys.executable, "-u", "-m", "pipeline", "ui", "--port", "5059"]
    with subprocess.Popen(
        line, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as server:  # fmt: skip
        assert server.stdout
        for text in server.stdout:
            if "http://" in text:
                break
        seconds = time.perf_counter() - began
        os.killpg(server.pid, signal.SIGTERM)
        server.stdout.read()
    return seconds


def environment() -> dict[str, str]:
    """Without what would lead out of the clone; the programs beside this Python are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "PYTHONPATH"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


if __name__ == "__main__":
    print(json.dumps(answer_times(), indent=2))
