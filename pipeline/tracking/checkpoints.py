"""What is kept of a training under way? Its last two states, under a name that only an equal training has."""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline import storage
from pipeline.errors import InputError

FOLDER = ".checkpoints"  # at the root of the main checkout, also for what DVC runs in a temporary copy
KEPT = 2


class Checkpoints:
    """The states of one training, by step; `lock` is held while it is under way."""

    def __init__(self, stage: str, identity: Mapping[str, Any], seconds: float) -> None:
        """`identity` is all that the bits of the training depend on; a state is due every so many `seconds`."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.stage, self.seconds = stage, seconds
        self.folder = storage.main_checkout() / FOLDER / f"{stage}-{digest[:12]}"
        self.lock_path = self.folder / "lock"
        self._last = time.monotonic()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process is at the same training, and keep others waiting while the block runs."""
        if is_held(self.lock_path):
            print(f"{self.stage}: another process is at the same training; waiting for it", file=sys.stderr)
        lock = FileLock(self.lock_path)
        while not lock.is_locked:
            with contextlib.suppress(FileNotFoundError, FileExistsError):  # a process that ended has just removed it
                self.folder.mkdir(parents=True, exist_ok=True)
                lock.acquire()
        try:
            for half in set(self.folder.iterdir()) - {self.lock_path, *_states(self.folder)}:  # a killed process's
                half.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def due(self) -> bool:
        """Whether the last state is old enough for another."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, step: int, arrays: storage.Arrays, header: Mapping[str, Any]) -> None:
        """Keep a state beside the one before it; an older one goes."""
        path = self.folder / f"{step:09d}.safetensors"
        storage.save_tensors(path, arrays, {**header, "sha256": _digest(arrays, header)})
        with path.open("rb") as file:
            os.fsync(file.fileno())  # before the one that a power cut would leave goes
        for old in _states(self.folder)[:-KEPT]:
            old.unlink()
        self._last = time.monotonic()

    def load(self) -> tuple[storage.Arrays, dict[str, Any]] | None:
        """The newest whole state, if any; a damaged one is told of and removed."""
        for path in reversed(_states(self.folder)):
            path.open("rb").close()  # what cannot be opened is not damaged
            with contextlib.suppress(InputError):
                arrays, header = storage.load_tensors(path)
                if header.pop("sha256", None) == _digest(arrays, header):
                    return arrays, header
            print(f"warning: {path}: is damaged; using the checkpoint before it, if there is one", file=sys.stderr)
            path.unlink()
        return None

    def remove(self) -> None:
        """Forget a training that ended well."""
        for path in [*_states(self.folder), self.lock_path]:
            path.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # not empty: others are at work
                folder.rmdir()

    def left_aside(self) -> list[Path]:
        """Folders with states of the same stage under other data, parameters or code, at which no process is."""
        folders = sorted(self.folder.parent.glob(f"{self.stage}-*"))
        return [other for other in folders if other != self.folder and _states(other) and not is_held(other / "lock")]


def is_held(lock: Path) -> bool:
    """Whether a process holds that lock, or may hold it for all that can be seen."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who look see no lock of each other
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return False


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _digest(arrays: storage.Arrays, header: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
