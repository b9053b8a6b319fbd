"""Which data, code, training and MLflow run stand behind a picture, weights or metrics? A short table, or an error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import storage, store
from pipeline.command import run_command
from pipeline.errors import InputError
from pipeline.provenance import Trace, trace
from pipeline.records import CELLS, beside, load_records


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.trace", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="pictures, weights, metrics or curves")
    parser.add_argument("--all", action="store_true", help="everything under reports/, models/ and study/, a line each")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    if options.all == bool(options.paths):
        parser.error("expected either paths or --all")
    answers: list[dict[str, Any]] = []
    for path in results_here() if options.all else options.paths:
        if options.all and path.suffix == ".safetensors" and not path.exists():
            print(f"absent  {path}: dvc pull or dvc repro brings it", file=sys.stderr)
            continue
        try:
            result = trace(path)
            answers.append(asdict(result))
            if not options.json:
                print(line(result) if options.all else table(result))
        except InputError as error:
            answers.append({"path": str(path), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(answers, indent=2))
    sys.exit(any("error" in answer for answer in answers))


def results_here() -> list[Path]:
    """Every file under reports/, models/ and the study's cells but records themselves, and all that records list."""
    found = set(Path("models").glob("*/*.safetensors"))
    for folder in (storage.RUNS, *sorted(CELLS.glob(f"*/{storage.RUNS}"))):
        found |= {path for path in folder.parent.rglob("*") if path.is_file() and path.parent.name != folder.name}
        found |= {beside(folder, Path(path)) for record in load_records(folder) for path in record.outputs}
    return sorted(found - {storage.IMAGES})


def table(result: Trace) -> str:
    """A trace as short lines."""
    lines = [
        result.path,
        f"  made by    {result.stage}{_when(result.started, result.commit, result.dirty)}",
        f"  listed in  {result.listed_in}, sha256 {result.sha256[:12]} agrees",
        f"  data       {result.data_name}, md5 {result.data_md5}",
    ]
    for training in result.trainings:
        lines += [
            f"  {training.model}",
            f"    weights    md5 {training.weights_md5}",
            f"    kl_weight  {training.kl_weight:g}, {training.parameters['likelihood']} likelihood",
            f"    trained    {_when(training.started, training.commit, training.dirty).removeprefix(', ')}",
        ]
        if training.experiment:
            lines.append(f"    experiment {training.experiment}")
        for run in training.runs:
            lines += [f"    run        {run['id']}, {run['name']}", f"    open       {_address(run['page'])}"]
        if training.missing_run:
            lines.append(f"    run        {training.missing_run}: not in the MLflow store, make ui brings it there")
    return "\n".join(lines)


def line(result: Trace) -> str:
    """A trace in one line."""
    shown = [f"{training.model} kl={training.kl_weight:g} {training.weights_md5[:8]}" for training in result.trainings]
    return f"ok      {result.path}: {', '.join([*shown, f'data {result.data_name} {result.data_md5[:8]}'])}"


def _when(started: str | None, commit: str | None, dirty: bool | None) -> str:
    if started is None:
        return ""
    state = {True: ", with uncommitted changes", False: ", clean", None: ""}[dirty]
    return f", {started[:16].replace('T', ' ')} UTC, commit {(commit or 'unknown')[:10]}{state}"


def _address(page: str) -> str:
    if store.database() is None:
        return f"{store.store_uri().rstrip('/')}/{page}"
    return f"make ui, then http://127.0.0.1:5050/{page}"


if __name__ == "__main__":
    run_command(main)
