"""A command that runs in a fork; see tests/processes.py. It imports little, so that it starts in an instant."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def run(command: list[str]) -> int:
    """How the command ended, in a fork that gets the signals which come here."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(f"{os.environ['FORKS']}/asked")
        socket.send_fds(asked, [b" "], [0, 1, 2])
        request = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}
        asked.sendall(json.dumps(request).encode() + b"\n")
        answers = asked.makefile()
        fork = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(fork, number))
        return int(answers.readline())


if __name__ == "__main__":
    status = run(sys.argv[1:])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
