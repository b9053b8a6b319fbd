"""Where can the runs be compared? In MLflow's UI, brought up to date and opened at the comparison of FC and conv."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pipeline import lineage, storage, tracking
from pipeline.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5050)
    port = parser.parse_args().port
    for folder in (storage.RUNS, Path("demo") / storage.RUNS.name):
        if folder.is_dir():
            tracking.sync(folder)
    path = tracking.comparison_path(tracking.open_store())
    if path is None:
        sys.exit("error: the MLflow store has no runs yet; type make demo or make repro first")
    if tracking.store_uri().startswith("http"):  # a server that runs already
        print(f"Compare FC and conv: {tracking.store_uri().rstrip('/')}/{path}")
        return
    print(f"Compare FC and conv: http://127.0.0.1:{port}/{path}\nStop with Ctrl-C.", flush=True)
    artifacts = lineage.main_checkout() / tracking.ARTIFACTS
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # its job runners take 0.8 GB and are not used
    server = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", tracking.store_uri(), "--artifacts-destination", str(artifacts)]
    os.execv(sys.executable, [sys.executable, "-m", *server, *store])


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
