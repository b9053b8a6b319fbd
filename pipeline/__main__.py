"""Which command runs a stage? `python -m pipeline train fc`: a mistake is told before anything heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module

from pipeline import study
from pipeline.command import run_command
from pipeline.params import MODELS, load_params

STAGES: Mapping[str, str] = {
    "download": "Where do the pictures come from?",
    "train": "How does a model come to be?",
    "yardstick": "What measures pictures? The classifier behind all distances, trained.",
    "evaluate": "How good is a trained model?",
    "render": "What do the models show?",
    "study": "How do the stages run for a cell of the study?",
    "answers": "What did the experiments on theory find?",
    "claims": "Does what the assignment said hold?",
    "report": "What did the study find, in words?",
    "page": "What did the project find, on one page?",
}
OF_A_MODEL = ("train", "evaluate")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Run a stage, as DVC does.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="stage")
    for stage, question in STAGES.items():
        command = stages.add_parser(stage, help=question, description=question)
        if stage in OF_A_MODEL:
            command.add_argument("model", choices=MODELS)
        if stage == "study":
            command.add_argument("cell", help=f"one of those in {study.STUDY_PARAMS}")
            command.add_argument("of_the_cell", choices=study.STAGES, metavar="stage", help=", ".join(study.STAGES))
    stage, *arguments = vars(parser.parse_args()).values()
    run_command(lambda: run(stage, arguments))


def run(stage: str, arguments: list[str]) -> None:
    load_params()
    import_module(f"pipeline.{stage}").main(*arguments)


if __name__ == "__main__":
    main()
