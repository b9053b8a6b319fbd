"""How is the pipeline run with other parameters while the workspace stays as it is? As a DVC experiment in a copy."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

from pipeline.errors import InputError

NO_HISTORY = (
    "this folder has no git history of its own, which DVC's experiments need; "
    'type: git init && git add --all && git commit --message "start"'
)
SHALLOW = (
    "this clone has but a part of the git history (git clone --depth), from which DVC makes no experiment; "
    "type: git fetch --unshallow"
)
RESULTS = ("reports", "dvc.lock", "study/cells", "study/dvc.lock")  # what a commit has of them
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
    forget_experiment(name)
    settings = [argument for override in overrides for argument in ("--set-param", override)]
    run = ["dvc", "exp", "run", "--temp", "--name", name, *settings, *targets]
    known = git("config", "--get", "--default", "", "user.email").strip()
    environment = os.environ | ({} if known else SOMEBODY) | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, text=True) as dvc:
        ended = False
        for line in dvc.stdout or ():
            ended = ended or line.startswith("Ran experiment")  # then DVC advises to apply it, which is not wanted
            if not ended:
                print(line, end="", flush=True)
    if dvc.returncode:
        raise InputError(f"experiment {name}: dvc exp run failed with exit status {dvc.returncode}, as told above")
    references = git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").decode().split()
    if len(references) != 1:
        raise InputError(f"experiment {name}: found {len(references)} results, expected 1; see dvc exp show")
    return references[0]


def forget_experiment(name: str) -> None:
    """Remove its entry from `dvc exp show`, if it has one; what the caches and MLflow have of it stays."""
    subprocess.run(["dvc", "exp", "remove", "--quiet", name], capture_output=True, check=False)


def experiment_revisions() -> list[str]:
    """Commits of all experiments that DVC keeps here; none where git has no history."""
    try:
        return git("for-each-ref", "--format=%(objectname)", "refs/exps/*/*/*").decode().split()
    except InputError:
        return []


def export(revision: str, root: Path, *paths: str) -> None:
    """Write below `root` what git has at `revision`, of `paths` alone if some are named; what it lacks is left out."""
    if found := git("ls-tree", "-z", "--name-only", revision, "--", *paths).decode().split("\0")[:-1]:
        ZipFile(io.BytesIO(git("archive", "--format=zip", "-0", revision, "--", *found))).extractall(root)


def require_history() -> None:
    """InputError unless git has commits of this pipeline, all of them, as in a clone."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository", "HEAD:./dvc.yaml").startswith(b"true")
    except InputError as error:
        if "not a git repository" in str(error) or "HEAD" in str(error):
            raise InputError(NO_HISTORY) from None
        raise  # a folder of another owner, for one
    if shallow:
        raise InputError(SHALLOW)


if __name__ == "__main__":  # make asks before it sets anything up, so this module needs the standard library alone
    try:
        require_history()
    except InputError as error:
        sys.exit(f"error: {error}")
