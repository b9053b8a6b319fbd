"""Python imports this as it starts, where PYTHONPATH names this folder: what a process does is watched from within.

KILL_STAGE, the end of a command line: in that process events are counted, each before it takes effect: "open" and
"rename" of a file in the working directory, "checkpoint", a rename below .checkpoints, "log", what MLflow is told.
KILL_AT, <event> <n> <child, group or leader, which is dvc's>: SIGKILL comes at that one. KILL_COUNTS: the file that
the counts go to.

CONNECTIONS, a file: every process adds a line for each host outside this machine that it looks up or connects to.
"""

import atexit
import collections
import functools
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

HERE = os.getcwd()
LOOPBACK = re.compile(r"127\.[\d.]+|::1?|localhost|0\.0\.0\.0")
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
counts: collections.Counter[str] = collections.Counter()
counting = threading.Lock()  # MLflow has a thread of its own


def happened(event: str) -> None:
    kind, number, whom = os.environ.get("KILL_AT", "none 0 child").split()
    with counting:
        counts[event] += 1
        count = counts[event]
    if event == kind and count == int(number):
        os.kill({"child": os.getpid(), "leader": os.getsid(0), "group": 0}[whom], signal.SIGKILL)


def watch_files(name: str, arguments: tuple[object, ...]) -> None:
    if name == "os.rename":
        happened("rename")
        if ".checkpoints" in str(arguments[1]):
            happened("checkpoint")
    elif name == "open" and isinstance(arguments[0], str | Path):
        path = os.path.join(HERE, arguments[0])
        if path.startswith(HERE) and not path.endswith((".py", ".pyc")):
            happened("open")


def watch_connections(name: str, arguments: tuple[object, ...]) -> None:
    host = None
    if name == "socket.getaddrinfo":
        host = arguments[0]
    elif name in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if isinstance(host, bytes):
        host = host.decode()
    if host and not LOOPBACK.fullmatch(str(host)):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{host} {sys.orig_argv}\n")


stage = os.environ.get("KILL_STAGE", "").split()
if stage and sys.orig_argv[-len(stage) :] == stage:
    from mlflow.tracking import MlflowClient

    for tell in TELLS:
        method = getattr(MlflowClient, tell)

        def told(*arguments, method=method, **options):  # type: ignore[no-untyped-def]
            happened("log")
            return method(*arguments, **options)

        setattr(MlflowClient, tell, functools.wraps(method)(told))
    sys.addaudithook(watch_files)
    if "KILL_COUNTS" in os.environ:
        atexit.register(lambda: Path(os.environ["KILL_COUNTS"]).write_text(json.dumps(counts)))
if "CONNECTIONS" in os.environ:
    sys.addaudithook(watch_connections)
