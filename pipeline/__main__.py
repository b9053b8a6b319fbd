"""Which command runs a stage or a tool? `python -m pipeline train fc`: mistakes are told before heavy imports."""

import argparse
import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from pipeline.command import run_command

Arguments = dict[str, dict[str, Any]]  # as argparse takes them
NONE: Arguments = {}


class Command(NamedTuple):
    """The function that runs it, the question that it answers, and its arguments."""

    function: str
    question: str
    arguments: Arguments = NONE


OF_A_MODEL: Arguments = {"model": {"choices": ("fc", "conv")}}
CELL: Arguments = {"cell": {"help": "one of those in study/params.yaml"}, "stage": {"help": "to run for the cell"}}
RERUN: Arguments = {"cell": CELL["cell"]}
ASKED: Arguments = {"cell": CELL["cell"] | {"nargs": "?", "default": ""}}
OVERRIDES: Arguments = {
    "overrides": {"nargs": "*", "metavar": "key=value", "help": "parameters that differ from params.yaml"}
}
TRACED: Arguments = {
    "paths": {"nargs": "*", "type": Path, "help": "images, weights, metrics or curves"},
    "--all": {"dest": "everything", "action": "store_true", "help": "all of reports/, models/ and study/, a line each"},
    "--json": {"dest": "as_json", "action": "store_true", "help": "for programs"},
}
SERVED: Arguments = {
    "--port": {"type": int, "default": 5050},
    "--host": {"default": "127.0.0.1", "help": "0.0.0.0 lets other machines in, whoever they are"},
}
EXPLORED: Arguments = {
    "--fc": {"default": "", "metavar": "RUN", "help": "MLflow run of FC, by the beginning of its id; else the newest"},
    "--conv": {"default": "", "metavar": "RUN", "help": "that of conv"},
    "--out": {"type": Path, "default": Path("explore.html"), "metavar": "FILE"},
    "--no-open": {"dest": "opens", "action": "store_false", "help": "write the page only"},
}
CLUSTER: Arguments = {
    "--cluster": {
        "default": "local",
        "help": "a Ray cluster's address; auto: that of this machine; local: its cores",
    }
}
SWEPT: Arguments = {
    "overrides": {"nargs": "+", "metavar": "key=value,value", "help": "parameters, each with the values that it takes"},
    "--model": {"choices": ("fc", "conv"), "required": True},
}
STAGES: dict[str, Command] = {
    "download": Command("download:main", "Where do the images come from?"),
    "train": Command("train:main", "How does a model come to be?", OF_A_MODEL),
    "evaluate": Command("evaluate:main", "How good is a trained model?", OF_A_MODEL),
    "render": Command("render:main", "What do the models show?"),
    "study": Command("study.cells:main", "How do the stages run for a cell of the study?", CELL),
    "calibration": Command("study.calibration:main", "Do distances order images as the eye does?"),
    "settings": Command("study.settings:main", "What do other settings look like?"),
    "answers": Command("study.answers:main", "What did the experiments on theory find?"),
    "claims": Command("study.claims:main", "Does what the assignment said hold?"),
    "report": Command("study.report:main", "What did the study find, in words?"),
    "page": Command("study.page:main", "What did the project find, on one page?"),
}
TOOLS: dict[str, Command] = {
    "demo": Command("tools.demo:main", "What does this project do? The whole pipeline on built-in shapes."),
    "trace": Command("tools.trace:main", "Which run stands behind an image, weights or metrics?", TRACED),
    "ui": Command("tools.ui:main", "Where can the runs be compared? In MLflow's UI.", SERVED),
    "explore": Command("tools.explorer:main", "What do the models make of a latent? A page to touch.", EXPLORED),
    "spread": Command("tools.cluster:spread", "How does the study run on many machines?", CLUSTER),
    "sweep": Command("tools.cluster:sweep", "What do many combinations of parameters make?", SWEPT | CLUSTER),
    "cells": Command("tools.expectations:show", "What is expected of a cell of the study? Without one, all.", ASKED),
    "rerun": Command("tools.expectations:rerun", "Does a cell of the study come out the same here?", RERUN),
    "publish": Command("tools.publish:main", "How do results get into git?", OVERRIDES),
    "tables": Command("tools.tables:main", "Which numbers do README and docs/ show?"),
}

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    # PyTorch's threads, which start after this, then wait for each other for a while only before they leave the core.
    os.environ["GOMP_SPINCOUNT"] = "100000"


def main() -> None:
    """Read the command line, and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Run a stage, as DVC does, or a tool.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="stage or tool")
    for name, (_, question, arguments) in (STAGES | TOOLS).items():
        command = commands.add_parser(name, help=question, description=question)
        for argument, options in arguments.items():
            command.add_argument(argument, **options)
    for name in sys.argv[1:2]:
        if name not in commands.choices and (near := get_close_matches(name, commands.choices, n=1)):
            parser.error(f"found the stage or tool {name}, did you mean {near[0]}?")
    given = vars(parser.parse_args())
    run(given.pop("name"), given)


def run(name: str, arguments: Mapping[str, Any]) -> None:
    """Run a tool, or a stage once params.yaml is valid."""
    if name in STAGES:
        from pipeline.params import load_params

        load_params()
    resolve_name(f"pipeline.{(STAGES | TOOLS)[name].function}")(**arguments)


if __name__ == "__main__":
    run_command(main)
