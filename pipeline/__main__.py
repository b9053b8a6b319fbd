"""Which command runs a stage or a tool? `python -m pipeline train fc`: mistakes are told before heavy imports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

from pipeline.command import run_command


class Command(NamedTuple):
    """The module whose `main` runs it, and the question that it answers."""

    module: str
    question: str


STAGES: Mapping[str, Command] = {
    "download": Command("download", "Where do the images come from?"),
    "train": Command("train", "How does a model come to be?"),
    "evaluate": Command("evaluate", "How good is a trained model?"),
    "render": Command("render", "What do the models show?"),
    "yardstick": Command("tools.yardstick", "What measures images? The classifier behind all distances, trained."),
    "study": Command("study.cells", "How do the stages run for a cell of the study?"),
    "answers": Command("study.answers", "What did the experiments on theory find?"),
    "claims": Command("study.claims", "Does what the assignment said hold?"),
    "report": Command("study.report", "What did the study find, in words?"),
    "page": Command("study.page", "What did the project find, on one page?"),
}
TOOLS: Mapping[str, Command] = {  # each reads its own arguments
    "demo": Command("tools.demo", "What does this project do? The whole pipeline on built-in shapes."),
    "trace": Command("tools.trace", "Which run stands behind an image, weights or metrics?"),
    "ui": Command("tools.ui", "Where can the runs be compared? In MLflow's UI."),
    "explore": Command("tools.explore", "Where can latent space be touched?"),
    "publish": Command("tools.publish", "How do results get into git?"),
    "tables": Command("tools.tables", "Which numbers do README and docs/ show?"),
}
OF_A_MODEL = ("train", "evaluate")


# PyTorch's threads, which start after this, then sleep between two tasks: spinning, they slow down all else that runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> None:
    """Read the command line, and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Run a stage, as DVC does, or a tool.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="stage or tool")
    for name, (_, question) in STAGES.items():
        command = commands.add_parser(name, help=question, description=question)
        if name in OF_A_MODEL:
            command.add_argument("model", choices=("fc", "conv"))
        if name == "study":
            command.add_argument("cell", help="one of those in study/params.yaml")
            command.add_argument("stage", help="to run for the cell")
    for name, (_, question) in TOOLS.items():
        commands.add_parser(name, help=question, add_help=False)
    for name in sys.argv[1:2]:
        if name not in commands.choices and (near := get_close_matches(name, commands.choices, n=1)):
            parser.error(f"found the stage or tool {name}, did you mean {near[0]}?")
    given, rest = parser.parse_known_args()
    if given.name in TOOLS:
        import_module(f"pipeline.{TOOLS[given.name].module}").main(rest)
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    else:
        name, *arguments = vars(given).values()
        run(name, arguments)


def run(stage: str, arguments: list[str]) -> None:
    """Run a stage once params.yaml is valid."""
    from pipeline.params import load_params

    load_params()
    import_module(f"pipeline.{STAGES[stage].module}").main(*arguments)


if __name__ == "__main__":
    run_command(main)
