"""How does a benchmark watch a process? Until its first line, until its end, and how much memory is its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InputError

ROOT = Path(__file__).parents[1]
INTERVAL = 0.02  # seconds between two looks at the memory


@dataclass
class Watched:
    lines: list[str] = field(default_factory=list)  # of stdout
    seconds_to_first_line: float = 0.0
    seconds: float = 0.0
    private_bytes: int = 0  # the peak of memory that no file backs


def python(arguments: Sequence[object], folder: Path = ROOT, environment: dict[str, str] | None = None) -> Watched:
    """Run Python in `folder` with this project's modules; InputError with its last words when it fails."""
    watched, began = Watched(), time.perf_counter()
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    line = [sys.executable, *map(str, arguments)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(line, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        memory = threading.Thread(target=_watch_memory, args=(process, watched))
        memory.start()
        assert process.stdout
        for text in process.stdout:
            watched.seconds_to_first_line = watched.seconds_to_first_line or time.perf_counter() - began
            watched.lines.append(text.rstrip())
        memory.join()
        watched.seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            last = " ".join(errors.read().splitlines()[-1:])
            raise InputError(f"{' '.join(line)}: ended with exit status {process.returncode}: {last}")
    return watched


def _watch_memory(process: subprocess.Popen[str], watched: Watched) -> None:
    """Linux alone tells; elsewhere it stays 0."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            (kilobytes,) = (row.split()[1] for row in status.read_text().splitlines() if row.startswith("RssAnon"))
        except (OSError, ValueError):
            return
        watched.private_bytes = max(watched.private_bytes, 1024 * int(kilobytes))
        time.sleep(INTERVAL)
