"""Where can the runs be compared? In MLflow's UI, brought up to date and opened at the comparison of FC and conv."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tracking import store, sync
from pipeline.tracking.experiments import experiment_revisions, export_results, export_study
from pipeline.tracking.records import record_folders

VIEW = "comparison"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5050)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, whoever they are")
    options = parser.parse_args(arguments)
    sync_everything()
    try:
        path = comparison()
    except Exception as error:  # of MLflow, SQLAlchemy, sqlite3, the network
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{store.store_uri()}: cannot be used as an MLflow store ({reason})") from None
    if path is None:
        sys.exit("error: the MLflow store has no runs yet; type make demo or make repro first")
    database = store.database()
    if database is None:  # a server that runs already
        print(f"Compare FC and conv: {store.store_uri().rstrip('/')}/{path}")
        return
    print(f"Compare FC and conv: http://{options.host}:{options.port}/{path}\nStop with Ctrl-C.", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # its job runners take 0.8 GB and are not used
    server = ["mlflow", "ui", "--host", options.host, "--port", str(options.port), "--workers", "1"]
    place = ["--backend-store-uri", store.store_uri()]
    place += ["--artifacts-destination", str(database.parent / store.ARTIFACTS)]
    os.execv(sys.executable, [sys.executable, "-m", *server, *place])


def sync_everything() -> None:
    """Bring over what the records of this checkout, of its demo and of DVC's experiments tell."""
    for folder in record_folders():
        sync.update_store(folder)
    for revision in experiment_revisions():
        with tempfile.TemporaryDirectory() as copy:
            export_results(revision, Path(copy))
            export_study(revision, Path(copy))
            for folder in record_folders(Path(copy)):
                sync.update_store(folder)


def comparison() -> str | None:
    """The page of the MLflow UI that charts the newest run of each model of the newest experiment; None without runs.

    The layout (images at the last epoch, curves, test metrics) is a view that MLflow keeps in an experiment tag.
    """
    client = store.open_store()
    runs = store.newest_runs(client)
    if not runs:
        return None
    experiment = runs[0].info.experiment_id
    epochs = {run.info.run_id: int(run.data.params["train.epochs"]) for run in runs}
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(chart_view(epochs)))
    query = f"viewStateShareKey={VIEW}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment}/runs?{query}"


def chart_view(epochs: Mapping[str, int]) -> dict[str, Any]:
    """MLflow 3's state of the chart view: which runs, which sections in which order, and the images' cards."""
    generated: dict[str, Any] = {"deleted": False, "isGenerated": True}
    card = {"type": "IMAGE", "metricSectionId": "images", "step": min(epochs.values()), "showRunParams": False}
    card |= {"runsCountToCompare": 10} | generated
    sections = ("images", "validation", "test", "train", "Model metrics", "System metrics")
    return {
        "compareRunCharts": [
            card | {"uuid": f"chart-{key}", "imageKeys": [key]} for key in ("samples", "reconstructions")
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": "metrics" not in name, "isReordered": False}
            | generated
            | ({"columns": 2, "cardHeight": 640} if name == "images" else {})
            for name in sections
        ],
        "isAccordionReordered": True,
        "searchFilter": f"attributes.run_id IN ({', '.join(repr(run_id) for run_id in epochs)})",
        "selectedColumns": [
            "params.`model`",
            "params.`kl_weight`",
            "metrics.`test/elbo`",
            "metrics.`test/samples_frechet`",
        ],
    }
