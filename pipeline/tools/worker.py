"""What does a machine of a cluster do? It clones the commit, runs stages by DVC, and returns what they made.

Ray sends this module by value, so it needs the standard library alone.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import node, python_version
from typing import NamedTuple

CACHE, LOCKS = Path(".dvc/cache"), ("dvc.lock", "study/dvc.lock")  # of a clone
# In one process, since DVC's imports take seconds; one by one, since it does not keep to an order of single items.
ONE_BY_ONE = "import sys; from dvc.cli import main; sys.exit(any(main(['repro', '-s', s]) for s in sys.argv[1:]))"


class Checkout(NamedTuple):
    """What all tasks share: a git bundle of the commit, and files that the clone gets besides, by path."""

    bundle: bytes
    files: Mapping[str, bytes]


class Task(NamedTuple):
    """Stages of DVC, in order, with the files and environment variables that they need besides."""

    name: str
    stages: Sequence[str]
    files: Mapping[str, bytes]
    environment: Mapping[str, str]


class Result(NamedTuple):
    """The cache of the clone as a tar of files/ and runs/, and the text of its dvc.lock files by path."""

    cache: bytes
    locks: Mapping[str, str]


def run_task(checkout: Checkout, task: Task, expected: Mapping[str, str]) -> Result:
    """Run the stages in a clone that goes afterwards; RuntimeError with DVC's words if one fails."""
    if differing := differences(expected, versions(expected)):
        raise RuntimeError(f"{node()}: {differing}")
    with tempfile.TemporaryDirectory(prefix=f"{task.name}-") as folder:
        bundle, clone = Path(folder, "bundle"), Path(folder, "clone")
        bundle.write_bytes(checkout.bundle)
        run(["git", "-c", "advice.detachedHead=false", "clone", "--quiet", str(bundle), str(clone)])
        for path, content in (*checkout.files.items(), *task.files.items()):
            target = clone / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        environment = os.environ | {"PATH": path_with_own_programs()} | dict(task.environment)
        run([sys.executable, "-c", ONE_BY_ONE, *task.stages], clone, environment)
        locks = {name: (clone / name).read_text("utf-8") for name in LOCKS if (clone / name).exists()}
        return Result(packed(clone / CACHE), locks)


def path_with_own_programs() -> str:
    """PATH, with the folder of this Python first unless it is there already: stages are `python -m pipeline ...`."""
    own, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    return path if own in path.split(os.pathsep) else os.pathsep.join([own, path])


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of packages here, and of "python"."""
    found = {}
    for name in names:
        try:
            found[name] = python_version() if name == "python" else version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words."""
    pairs = ((name, found[name], wanted) for name, wanted in expected.items() if found[name] != wanted)
    return ", ".join(f"found {name} {here}, expected {wanted} as on the head" for name, here, wanted in pairs)


def run(command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Run a command; RuntimeError with the end of what it printed if it fails."""
    finished = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if finished.returncode:
        said = " ".join(finished.stdout.split())[-1000:]
        raise RuntimeError(f"{node()}: {Path(command[0]).name} failed with exit status {finished.returncode}: {said}")


def packed(cache: Path) -> bytes:
    """A tar of the files in a DVC cache."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for part in ("files", "runs"):
            if (cache / part).exists():
                archive.add(cache / part, part)
    return content.getvalue()
