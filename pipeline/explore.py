"""Where can latent space be touched? On a page that a server of this machine alone shows, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys

from pipeline import exhibits, lineage
from pipeline.command import run_command
from pipeline.ui import sync_everything

SETTINGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorLinks": "false",  # to search engines and the like
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.explore", description=__doc__)
    parser.add_argument("--port", type=int, default=8501)
    port = parser.parse_args().port
    sync_everything()
    exhibits.runs_with_models()  # fails here where it would fail in the browser
    print(f"Explore: http://127.0.0.1:{port}\nStop with Ctrl-C.", flush=True)
    page = lineage.PACKAGE / "explorer.py"
    settings = [f"--{key}={value}" for key, value in (SETTINGS | {"server.port": port}).items()]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *settings])


if __name__ == "__main__":
    run_command(main)
