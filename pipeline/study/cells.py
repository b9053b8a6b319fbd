"""How does a study run the stages with other parameters? Each cell is a workspace of its own, below study/cells/."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import MODELS, PARAMS_FILE, STUDY_PARAMS, Model, changed, load_params, load_yaml
from pipeline.tracking.records import CELL_VARIABLE, CELLS

STUDY = Path("study/dvc.yaml")
GROUPS = ("trainings", "assignments", "gradients")  # of cells, in STUDY_PARAMS
# What cells have in common: links to the checkout's own.
SHARED = (storage.DATA,)
STAGES: Mapping[str, str] = {  # of a cell, with their modules
    "train": "train",
    "evaluate": "evaluate",
    "survey": "study.survey",
    "assignment": "study.assignment",
    "assess": "study.assessment",
    "gradients": "study.gradients",
}


def main(cell: str, stage: str) -> None:
    """Run a stage for a cell."""
    if stage not in STAGES:
        raise InputError(f"study: found stage {stage}, expected one of {', '.join(STAGES)}")
    model = enter(cell)
    load_params()  # a mistake is told before the stage's imports
    import_module(f"pipeline.{STAGES[stage]}").main(model)


def enter(name: str) -> Model:
    """Make the folder of a cell the working directory, with its params.yaml and links to data; return its model."""
    model, changes = cell_of(name)
    content = changed(load_yaml(PARAMS_FILE), changes)
    folder = CELLS / name
    folder.mkdir(parents=True, exist_ok=True)
    with storage.replacing(folder / PARAMS_FILE) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for shared in SHARED:
        link = folder / shared
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(shared, link.parent), target_is_directory=True)
    os.environ[CELL_VARIABLE] = name
    os.chdir(folder)
    return model


def stages_by_cell() -> dict[str, list[str]]:
    """The stages that run for each cell, in their order, as STUDY declares them."""
    groups, found = load_yaml(STUDY_PARAMS), dict[str, list[str]]()
    for stage, declared in load_yaml(STUDY)["stages"].items():
        for cell in groups[declared["foreach"].strip("${}")] if "foreach" in declared else ():
            found.setdefault(cell, []).append(stage)
    return found


def cell_of(name: str) -> tuple[Model, dict[str, Any]]:
    """The model of a cell and the parameters, by dotted key, that differ from params.yaml."""
    content = load_yaml(STUDY_PARAMS)
    groups = {cell: group for group in GROUPS for cell in content.get(group, {})}
    if name not in groups:
        raise InputError(f"{STUDY_PARAMS}: found no cell {name}, expected one of {', '.join(groups)}")
    cell = content[groups[name]][name]
    model = cell.get("model")
    if model not in MODELS:
        where = f"{STUDY_PARAMS}: {groups[name]}.{name}.model"
        raise InputError(f"{where}: found {model!r}, expected one of {', '.join(MODELS)}")
    return model, cell.get("set", {})
