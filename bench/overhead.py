"""What does MLflow cost? The share of a training's time that is spent inside tracking calls."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from pipeline import storage, train
from pipeline.params import PARAMS_FILE
from pipeline.tracking import runs, store, sync

EPOCHS = 10


def tracking_share(data: Path) -> dict[str, float]:
    """Seconds of a fully connected training of 10 epochs, and the share of them in tracking, on the images in `data`.

    The store exists before, as for every training but a checkout's first.
    """
    params = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    params["train"]["epochs"] = EPOCHS
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder), ExitStack() as stack:
        stack.enter_context(
            patch.dict(os.environ, DVC_ROOT=folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        )
        for owner, name in ((runs.LiveRun, "__enter__"), (runs.LiveRun, "log_epoch"), (sync, "update_store")):
            stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), spent)))
        PARAMS_FILE.write_text(yaml.safe_dump(params), encoding="utf-8")
        shutil.copytree(data, storage.DATA)
        store.open_store()
        start = time.perf_counter()
        train.main("fc")
        seconds = time.perf_counter() - start
    return {"epochs": EPOCHS, "seconds": seconds, "share": sum(spent) / seconds}


def _timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """`call`, which adds the seconds that it takes to `spent`."""

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            spent.append(time.perf_counter() - start)

    return timed
