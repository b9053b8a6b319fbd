"""How is the pipeline run with other parameters while the workspace stays as it is? As a DVC experiment in a copy."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError

NO_HISTORY = (
    "this folder has no git history of its own, which DVC's experiments need; "
    'type: git init && git add --all && git commit --message "start"'
)
SHALLOW = (
    "this clone has but a part of the git history (git clone --depth), from which DVC makes no experiment; "
    "type: git fetch --unshallow"
)
SOMEBODY = {  # for DVC's commits of a workspace with changes, none of which enter a branch, where git knows nobody
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "experiment"), ("EMAIL", "experiment@localhost"))
}


def git(*arguments: str) -> bytes:
    """What a git command prints; InputError with git's own reason where it fails or there is no git."""
    try:
        environment = os.environ | {"LC_ALL": "C"}  # its reasons in English, like everything here
        return subprocess.run(["git", *arguments], check=True, capture_output=True, env=environment).stdout
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise InputError(f"git {arguments[0]} failed: {reason}") from None
    except OSError as error:
        raise InputError(f"git: cannot be run ({error.strerror})") from None


def run_experiment(name: str, overrides: Sequence[str], targets: Sequence[str] = ()) -> str:
    """Run the pipeline in a temporary copy with `overrides` (key=value), and return the commit that holds its results.

    Stages that ran before with the same inputs are taken from DVC's run cache. An earlier experiment of that name goes.
    """
    require_history()
    subprocess.run(["dvc", "exp", "remove", "--quiet", name], capture_output=True, check=False)
    settings = [argument for override in overrides for argument in ("--set-param", override)]
    run = ["dvc", "exp", "run", "--temp", "--name", name, *settings, *targets]
    known = git("config", "--get", "--default", "", "user.email").strip()
    finished = subprocess.run(run, env=os.environ | ({} if known else SOMEBODY), check=False)
    if finished.returncode:
        raise InputError(f"experiment {name}: dvc exp run failed with exit status {finished.returncode}, as told above")
    references = git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").decode().split()
    if len(references) != 1:
        raise InputError(f"experiment {name}: found {len(references)} results, expected 1; see dvc exp show")
    return references[0]


def forget_experiment(name: str) -> None:
    """Remove its entry from `dvc exp show`; what the caches and MLflow have of it stays."""
    subprocess.run(["dvc", "exp", "remove", "--quiet", name], check=True)


def experiment_revisions() -> list[str]:
    """Commits of all experiments that DVC keeps here; none where git has no history."""
    try:
        return git("for-each-ref", "--format=%(objectname)", "refs/exps/*/*/*").decode().split()
    except InputError:
        return []


def committed(revision: str, path: str) -> bytes:
    """The content of a file at `revision`; b"" where that has no such file."""
    try:
        return git("show", f"{revision}:{path}")
    except InputError:
        return b""


def export(revision: str, source: PurePosixPath, target: Path) -> None:
    """Write the files that git has below `source` at `revision` to `target`."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", revision, str(source)))) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)):
                path = target / PurePosixPath(member.name).relative_to(source)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def export_results(revision: str, root: Path, reports: str = "reports") -> None:
    """Write reports/, under that name or another, and dvc.lock as they are at `revision` below `root`."""
    export(revision, PurePosixPath("reports"), root / reports)
    (root / "dvc.lock").write_bytes(committed(revision, "dvc.lock"))


def export_study(revision: str, root: Path) -> None:
    """Write the reports of the study's cells and its dvc.lock as they are at `revision` below `root`, if any."""
    if lock := committed(revision, "study/dvc.lock"):
        export(revision, PurePosixPath("study/cells"), root / "study/cells")
        (root / "study/dvc.lock").write_bytes(lock)


def require_history() -> None:
    """InputError unless git has commits of this pipeline, all of them, as in a clone."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
    except InputError as error:
        if "not a git repository" not in str(error):  # a folder of another owner, for one
            raise
        raise InputError(NO_HISTORY) from None
    if shallow:
        raise InputError(SHALLOW)
    try:
        git("rev-parse", "--verify", "--quiet", "HEAD:./dvc.yaml")
    except InputError:
        raise InputError(NO_HISTORY) from None


if __name__ == "__main__":  # make asks before it sets anything up, so this module needs the standard library alone
    try:
        require_history()
    except InputError as error:
        sys.exit(f"error: {error}")
