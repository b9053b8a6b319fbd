"""How do results get into git? One run of the committed code on the best data at hand, committed with its reports."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tools import tables
from pipeline.tracking import sync
from pipeline.tracking.experiments import RESULTS, export, forget_experiment, git, require_history, run_experiment


def main(overrides: Sequence[str]) -> None:
    """Run the pipeline and the study, take over their reports, locks and models, fill in all tables and commit."""
    require_history()
    if changed := git("status", "--porcelain", "--untracked-files=no").decode().splitlines():
        raise InputError(f"uncommitted changes ({changed[0].strip()}), expected none: commit or stash them first")
    git("var", "GIT_COMMITTER_IDENT")  # fails before the long work where it would fail after it
    for page in tables.pages():
        tables.require_known_tables(page.read_text(encoding="utf-8"))
    commit = git("rev-parse", "--short", "HEAD").decode().strip()
    revision = run_experiment("publish", overrides, ["--all-pipelines"])
    export(revision, Path(), *RESULTS)
    subprocess.run(["dvc", "checkout", "--quiet", "--force"], check=True)
    sync.update_store()
    tables.main()
    git("add", "dvc.lock", "README.md", "docs", storage.REPORTS.as_posix(), "study")
    if git("status", "--porcelain", "--untracked-files=no"):
        git("commit", "--quiet", "--message", f"Publish the results of {commit}: {' '.join(overrides)}".rstrip(": "))
    forget_experiment("publish")
    print(f"published: {git('log', '-1', '--oneline').decode().strip()}")
