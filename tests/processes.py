"""Other processes of a test: they start from one that has imported all that they need, so in an instant."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pipeline import __main__
from pipeline.command import run_command
from tests.conftest import HOOKS, ROOT, Clone


def processes() -> ForkServerContext:
    """The context that makes them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.processes"])
    with pytest.MonkeyPatch.context() as patch:  # where it imports from
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        forkserver.ensure_running()
    return context


def run_stage(clone: Clone, stage: str, output: Path, **environment: str) -> CompletedProcess[str]:
    """What `python -m pipeline <stage>` does in a clone, watched as tests/hooks says; `output` is what it printed."""
    its_own = {"DVC_ROOT": str(clone.folder)}  # the code is this checkout's
    arguments = (clone.folder, clone.environment | its_own | environment, stage.split(), output)
    process = processes().Process(target=_run_stage, args=arguments)
    process.start()
    process.join()
    return CompletedProcess(stage, process.exitcode or 0, output.read_text(), "")


def _run_stage(folder: Path, environment: Mapping[str, str], arguments: list[str], output: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["pipeline", *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    runpy.run_path(f"{HOOKS}/sitecustomize.py")
    try:
        run_command(__main__.main)
    finally:
        atexit._run_exitfuncs()  # as an interpreter's end does, and one of multiprocessing's processes does not
