"""Python imports this as it starts: in a stage it counts events, and ends the process at one of them by SIGKILL.

KILL_STAGE is the end of the command line of the stage that it is for, KILL_AT <event> <n> <child or group>. Without
KILL_AT the counts go to the file that KILL_COUNTS names. Events, each counted before it takes effect: "open" and
"rename" of a file in the working directory, "checkpoint", a rename below .checkpoints, "log", what MLflow is told.
"""

import atexit
import collections
import functools
import json
import os
import signal
import sys
from pathlib import Path

HERE = os.getcwd()
COUNTS: collections.Counter[str] = collections.Counter()
TELLS = (
    "create_run",
    "log_batch",
    "log_image",
    "log_artifact",
    "log_inputs",
    "set_tag",
    "set_terminated",
    "update_run",
)


def happened(event: str) -> None:
    COUNTS[event] += 1
    kind, number, whom = os.environ.get("KILL_AT", "none 0 child").split()
    if event == kind and COUNTS[event] == int(number):
        os.killpg(0, signal.SIGKILL) if whom == "group" else os.kill(os.getpid(), signal.SIGKILL)


def listen(name: str, arguments: tuple[object, ...]) -> None:
    if name == "os.rename":
        happened("rename")
        if ".checkpoints" in str(arguments[1]):
            happened("checkpoint")
    elif name == "open" and isinstance(arguments[0], str | Path):
        path = os.path.join(HERE, arguments[0])
        if path.startswith(HERE) and not path.endswith((".py", ".pyc")):
            happened("open")


if sys.orig_argv[-len(os.environ["KILL_STAGE"].split()) :] == os.environ["KILL_STAGE"].split():
    from mlflow.tracking import MlflowClient

    for tell in TELLS:
        method = getattr(MlflowClient, tell)

        def told(*arguments, method=method, **options):  # type: ignore[no-untyped-def]
            happened("log")
            return method(*arguments, **options)

        setattr(MlflowClient, tell, functools.wraps(method)(told))
    sys.addaudithook(listen)
    if "KILL_COUNTS" in os.environ:
        atexit.register(lambda: Path(os.environ["KILL_COUNTS"]).write_text(json.dumps(COUNTS)))
