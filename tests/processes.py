"""Processes of a test start in an instant: each is forked from one that has imported all that they need.

A folder in FORKS, an environment variable, holds `python` and `dvc`. First in PATH, they ask that process for a fork
with their arguments, environment, folder, stdin, stdout and stderr, and end as it ends. The fork runs this checkout's
modules, wherever it is.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

FORKS = "FORKS"
PRELOADED = ("tests.fixtures", "dvc.cli", "dvc.commands.repro", "dvc.repo")
ASK = Path(__file__).with_name("ask_for_a_fork.py")


@contextlib.contextmanager
def forks_on_demand() -> Iterator[None]:
    """Within the block there is a process to fork from; it imports what it needs when it is first asked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for program, module in (("python", []), ("dvc", ["-m", "dvc"])):
            asking = shlex.join([sys.executable, "-IS", str(ASK), sys.executable, *module])
            (folder / program).write_text(f'#!/bin/sh\nexec {asking} "$@"\n')
            (folder / program).chmod(0o755)
        os.environ[FORKS] = name
        command = [sys.executable, "-m", __name__]
        with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE) as server:
            yield
            server.kill()
        del os.environ[FORKS]


def fork(*arguments: str) -> subprocess.Popen[str]:
    """What `python` and the arguments start."""
    pipe, python = subprocess.PIPE, f"{os.environ[FORKS]}/python"
    return subprocess.Popen([python, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def lines_of(process: subprocess.Popen[str]) -> IO[str]:
    """What it prints."""
    assert process.stdout is not None
    return process.stdout


def at_once(code: str, count: int) -> list[tuple[str, str]]:
    """Output and errors of so many processes; each prints a line when it is ready, and then waits for one."""
    started = [fork("-c", code) for _ in range(count)]
    for process in started:
        lines_of(process).readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate() for process in started]


def serve(folder: Path) -> None:
    """Fork whenever asked, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "asked"))
        listening.listen()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            for module in PRELOADED:
                importlib.import_module(module)
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _answer(connection)


def _answer(connection: socket.socket) -> NoReturn:
    """Fork what was asked for, and tell its id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, descriptors, *_ = socket.recv_fds(connection, 65536, 3)
    while not asked.endswith(b"\n"):
        asked += connection.recv(65536)
    child = os.fork()
    if child == 0:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _be(**json.loads(asked))
    for descriptor in descriptors:
        os.close(descriptor)
    threading.Thread(target=_kill_when_gone, args=(connection, child)).start()
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _kill_when_gone(connection: socket.socket, child: int) -> None:
    """Who kills the process that asked means the fork."""
    connection.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _be(command: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """What the command would do in a process of its own, from its start to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({"DVC_ROOT": folder} | environment)  # this checkout's modules lie elsewhere
    if Path(folder, "dvc.yaml").exists():
        sys.modules["pipeline.tracking.lineage"].__dict__["PROJECT"] = Path(folder)
    sys.orig_argv = list(command)
    for path in environment.get("PYTHONPATH", "").split(os.pathsep):
        if (hook := Path(path) / "sitecustomize.py").is_file():
            runpy.run_path(str(hook))
    status: object = 1
    try:
        match command:
            case [_, "-c", code, *arguments]:
                sys.argv = ["-c", *arguments]
                exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
            case [_, "-m", module, *arguments]:
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case [python, *_]:
                os.execv(python, command)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    serve(Path(os.environ[FORKS]))
