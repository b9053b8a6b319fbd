"""Where can runs be compared? In MLflow's UI, brought up to date."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError, printable
from pipeline.tracking.lineage import ARTIFACTS, database, store_uri

VIEW = "comparison"
LAYOUT = Path(__file__).with_name("comparison.json")  # MLflow 3's state of the chart view: images, curves, test metrics


def main(port: int, host: str) -> None:
    """Bring the checkout's own runs over, print the comparison's address, and serve it while the others follow."""
    bring_own_runs()
    from pipeline.tracking import runs, store, sync

    try:
        path = comparison()
    except store.ERRORS as error:
        raise InputError(f"{store_uri()}: cannot be used as an MLflow store ({runs.one_line(error)})") from None
    if path is None:
        sys.exit("error: the MLflow store has no runs yet; type make demo or make repro first")
    file = database()
    address = f"http://{host}:{port}" if file else printable(store_uri().rstrip("/"))
    print(f"Compare FC and conv: {address}/{path}", flush=True)
    if file is None:  # a server that runs already
        sync.update_everything()
        return
    server = ["mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    place = ["--backend-store-uri", store_uri(), "--artifacts-destination", str(file.parent / ARTIFACTS)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its job runners take 0.8 GB and are not used
    with subprocess.Popen([sys.executable, "-m", *server, *place], env=os.environ | quiet) as running:
        print("Stop with Ctrl-C. The study's and DVC's experiments follow meanwhile.", flush=True)
        os.nice(10)  # the server comes first
        try:
            sync.update_everything()
            print("All runs are there.", flush=True)
            sys.exit(running.wait())
        except KeyboardInterrupt:  # the server has got it as well
            pass
        finally:
            running.terminate()


def bring_own_runs() -> None:
    """Make MLflow tell what the records of this checkout's pipeline and of its demo tell."""
    print("Bringing the runs of this checkout over to MLflow", flush=True)
    from pipeline.tracking import sync  # with it comes MLflow, which takes seconds

    sync.update_store(*(folder for folder in (storage.RUNS, Path("demo", storage.RUNS.name)) if folder.is_dir()))


def comparison() -> str | None:
    """The page of the MLflow UI that charts the newest run of each model of the newest experiment; None without runs.

    The study's runs do not count. The layout, with images at the last epoch, is a view that MLflow keeps in a tag.
    """
    from pipeline.tracking import store

    client = store.open_store()
    runs = [run for run in store.stored_runs(client) if run.weights_md5 and "study.cell" not in run.tags]
    if not runs:
        return None
    experiment = runs[-1].experiment
    newest = {run.params["model"]: run for run in runs if run.experiment == experiment}.values()
    view = storage.load_json(LAYOUT)
    view["searchFilter"] = f"attributes.run_id IN ({', '.join(repr(run.id) for run in newest)})"
    for chart in view["compareRunCharts"]:
        chart["step"] = min(int(run.params["train.epochs"]) for run in newest)
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    query = f"viewStateShareKey={VIEW}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment}/runs?{query}"
