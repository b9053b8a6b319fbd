"""Do dvc.yaml, the code and params.yaml still agree? Each contract with a change by hand that it notices."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import download, storage, train
from pipeline.errors import InputError
from pipeline.params import MODELS, UNSTATED, USED_BY_STAGE, Model, load_params, used_parameters
from pipeline.study import gradients, survey
from tests.fixtures import ROOT, TINY, leaves_read, merged, watch, write_params

# Stages by their names in DVC, those of study/dvc.yaml below study/, with the module whose `main` each runs.
STAGES: Mapping[str, str] = {
    "download": "download",
    "train": "train",
    "evaluate": "evaluate",
    "render": "render",
    "study/train": "train",
    "study/evaluate": "evaluate",
    "study/survey": "study/survey",
    "study/assignment": "study/assignment",
    "study/assess": "study/assessment",
    "study/gradients": "study/gradients",
    "study/settings": "study/settings",
    "study/calibration": "study/calibration",
    "study/answers": "study/answers",
    "study/claims": "study/claims",
    "study/report": "study/report",
    "study/page": "study/page",
}
# What cannot change a result: it writes a record, a view of it, a message, or a state from which a training goes on to
# the same bits.
NEUTRAL = re.compile(r"pipeline/(tracking/\w+|command|errors|params|((vae|study|tools)/)?__init__)\.py")

FOREIGN_TO_THE_CORE = {"mlflow", "dvc", "yaml", "argparse", "pathlib", "json", "safetensors", "tqdm"}


def pipeline_file() -> dict[str, Any]:
    """The stages of dvc.yaml and of study/dvc.yaml, whose own are called study/..., without what repeats them."""
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert isinstance(content, dict)
    for name, stage in yaml.safe_load((ROOT / "study/dvc.yaml").read_text())["stages"].items():
        content["stages"][f"study/{name}"] = copy.deepcopy(stage.get("do", stage))  # nothing shared by YAML anchors
    return content


def imported_names(path: Path) -> set[str]:
    """Full names of everything that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(path: Path, root: Path = ROOT) -> set[str]:
    """Files of this project that a module imports, relative to `root`."""
    places = {name.replace(".", "/") for name in imported_names(path) if name.startswith("pipeline.")}
    files = {f"{place}{suffix}" for place in places for suffix in (".py", "/__init__.py")}
    return {file for file in files if (root / file).exists()}


def needed_modules(stage: str) -> set[str]:
    """The stage's module and all that it imports, directly or not, less those that cannot change a result."""
    found, waiting = set(), {f"pipeline/{STAGES[stage]}.py"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= {name for name in imported_modules(ROOT / module) if not NEUTRAL.fullmatch(name)} - found
    return found


def missing_deps(content: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stages that import modules which neither a file nor a package among their deps covers, with those modules."""
    missing = {}
    for stage in STAGES:
        deps = {dep for dep in content["stages"][stage]["deps"] if dep.startswith("pipeline/")}
        uncovered = {m for m in needed_modules(stage) if not any(m == dep or m.startswith(f"{dep}/") for dep in deps)}
        if uncovered:
            missing[stage] = uncovered
    return missing


def images_read(stage: str) -> set[str]:
    """Files of prepared images that a stage's module reads: `load_images` reads the training file for its header."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / f"pipeline/{STAGES[stage]}.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_images"
    ]
    names = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    of_test = {str(storage.TEST_IMAGES) for name in names if str(name).startswith("test_")}
    return of_test | ({str(storage.TRAIN_IMAGES)} if names else set())


def wrong_images(content: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stages whose deps are not the files of images that they read, with the difference."""
    wrong = {}
    for stage in STAGES:
        deps = {dep for dep in content["stages"][stage]["deps"] if dep.startswith("data/")}
        if deps != images_read(stage):
            wrong[stage] = deps ^ images_read(stage)
    return wrong


def name_of(stage: str) -> str:
    """As `used_parameters` calls a stage."""
    return STAGES[stage].rpartition("/")[2]


def wrong_params(content: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stages whose params are not those that records and MLflow state, with the difference."""
    declared = {
        stage: {
            key.replace("${item.model}", "{model}")
            for key in content["stages"][stage]["params"]
            if isinstance(key, str)
        }
        for stage in STAGES
        if name_of(stage) in USED_BY_STAGE
    }
    used = {stage: set(USED_BY_STAGE[name_of(stage)]) for stage in declared}
    return {stage: declared[stage] ^ used[stage] for stage in declared if declared[stage] != used[stage]}


def test_a_stage_misses_no_module_that_it_imports() -> None:
    assert missing_deps(pipeline_file()) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_dep_is_noticed(stage: str) -> None:
    changed = copy.deepcopy(pipeline_file())
    module = f"pipeline/{STAGES[stage]}.py"
    changed["stages"][stage]["deps"].remove(module)
    assert missing_deps(changed) == {stage: {module}}


def test_a_stage_depends_on_the_images_that_it_reads_and_no_training_on_those_for_test() -> None:
    content = pipeline_file()
    assert wrong_images(content) == {}
    for stage in ("train", "study/train", "study/gradients"):
        assert images_read(stage) == {str(storage.TRAIN_IMAGES)}
    content["stages"]["train"]["deps"].append(str(storage.TEST_IMAGES))
    content["stages"]["render"]["deps"].remove(str(storage.TEST_IMAGES))
    assert wrong_images(content) == {stage: {str(storage.TEST_IMAGES)} for stage in ("train", "render")}


def test_every_dep_on_code_exists_and_is_used() -> None:
    for stage in STAGES:
        for dep in pipeline_file()["stages"][stage]["deps"]:
            if dep.startswith("pipeline/"):
                assert (ROOT / dep).exists()
                if not dep.endswith("templates"):
                    assert any(module.startswith(dep) for module in needed_modules(stage)), (stage, dep)


def test_declared_params_are_those_that_records_state() -> None:
    assert wrong_params(pipeline_file()) == {}


def test_a_changed_param_is_noticed() -> None:
    changed = copy.deepcopy(pipeline_file())
    changed["stages"]["train"]["params"].remove("kl_weight")
    changed["stages"]["render"]["params"].append("run")
    assert wrong_params(changed) == {"train": {"kl_weight"}, "render": {"run"}}


def assert_read(seen: set[str], stage: str, model: Model | None = None) -> None:
    declared = set(used_parameters(load_params(), stage, model)) | ({UNSTATED[0]} & set(USED_BY_STAGE[stage]))
    assert {key for key in seen if not key.startswith("run.")} == declared, (stage, model)


@pytest.mark.usefixtures("finished")
def test_the_declared_leaves_are_read_and_no_others(finished_folder: Path) -> None:
    assert_read(leaves_read(finished_folder, "render"), "render")
    for stage in ("train", "evaluate"):
        for model in MODELS:
            assert_read(leaves_read(finished_folder, f"{stage}@{model}"), stage, model)


def test_the_leaves_of_all_sources_and_of_the_study_are_read(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(download, monkeypatch)
    for source in ("folder", "cifar10", "shapes"):
        paths = {"path": "nowhere" if source == "folder" else None}
        urls = {"url": "file:///nowhere.tar.gz" if source == "cifar10" else None}
        changes = {"prior_components": 0, "data": {"source": source} | paths | urls}  # what a survey wants
        write_params(workspace, merged(TINY, changes))
        try:
            download.main()
        except InputError:
            assert source != "shapes"
    assert_read(seen, "download")
    train.main("fc")
    for module, stage in ((survey, "survey"), (gradients, "gradients")):
        seen = watch(module, monkeypatch)
        module.main("fc")
        assert_read(seen, stage, "fc")


def test_run_parameters_belong_to_no_stage() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert not re.search(r"^\s*- run\b", text, flags=re.MULTILINE)
    assert not any(key.startswith("run") for keys in USED_BY_STAGE.values() for key in keys)


@pytest.mark.parametrize("package", ["vae", "metrics", "figures"])
def test_the_core_is_pure(package: str) -> None:
    for path in (ROOT / "pipeline" / package).glob("*.py"):
        assert not {name.partition(".")[0] for name in imported_names(path)} & FOREIGN_TO_THE_CORE, path
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"open", "print"}, path


def test_no_name_stands_for_two_things() -> None:
    """No module's name twice, and no function that is named like a module."""
    modules = [path.stem for path in (ROOT / "pipeline").rglob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(modules) == len(set(modules))
    functions = {
        node.name
        for path in (ROOT / "pipeline").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert not functions & set(modules)


def test_the_weighted_loss_stands_in_one_line() -> None:
    lines = [
        line
        for path in (ROOT / "pipeline").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"kl_weight\s*\*\s*[a-z_.]*rate|rate\s*\*\s*[a-z_.]*kl_weight", line)
    ]
    assert len(lines) == 1


def test_results_keep_their_bytes_where_git_converts_line_endings() -> None:
    asked = ["git", "check-attr", "eol", "text", "--", "reports/README.md", "dvc.lock", "models/fc/weights.safetensors"]
    told = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert told.count(": eol: lf\n") >= 2
    assert "weights.safetensors: text: unset\n" in told


def test_every_pinned_requirement_is_exact_and_names_no_index() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.match(r"^[a-z0-9._-]+(\[[a-z,]+\])?==[^ ]+( ; .+)?$", line) for line in lines if line)
    pinned = {re.split(r"[\[=]", line)[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {re.split(r"[<>=]", requirement)[0] for requirement in wanted} <= pinned
