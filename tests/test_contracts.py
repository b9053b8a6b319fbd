"""Do dvc.yaml, the code, params.yaml and README still agree? Each contract with a change by hand that it notices."""

from __future__ import annotations

import ast
import copy
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pipeline import (
    autoencoder,
    download,
    evaluate,
    gradients,
    lineage,
    readme,
    render,
    survey,
    theory,
    train,
    yardstick,
)
from pipeline.errors import InputError
from pipeline.experiments import export
from pipeline.params import MODELS, USED_BY_STAGE, Params, load_params, used_parameters
from tests.conftest import ROOT, TINY, merged, write_params

STAGES = (
    *("download", "train", "yardstick", "evaluate", "render"),
    *("study/train", "study/evaluate", "study/survey", "study/assignment", "study/claims"),
    *(
        "study/sweep",
        "study/autoencoder",
        "study/theory",
        "study/codes",
        "study/gradients",
        "study/answers",
        "study/report",
    ),
)
MODULES: Mapping[str, str] = {"study/sweep": "train", "study/codes": "theory"}  # of stages that are not called like it

# Modules that cannot change a result: what they write is a record, a view of it, a message, or a state from which a
# training goes on to the same bits.
RESULT_NEUTRAL = {
    f"pipeline/{name}.py"
    for name in (
        *("checkpoints", "command", "errors", "lineage", "live"),
        *("params", "records", "runs", "serving", "store", "tracking"),
    )
}

# Who may know whom; a module that is not named here is a command on top, which may import all but another stage.
LAYERS: Mapping[str, set[str]] = {
    "errors": set(),
    "params": {"errors"},
    "storage": {"errors"},
    "archives": {"errors"},
    "pictures": {"archives", "errors", "storage"},
    "lineage": set(),
    "records": {"errors", "lineage", "params", "storage"},
    "store": {"lineage", "records"},
    "serving": {"weights", "vae.generation"},
    "checkpoints": {"errors", "lineage", "storage"},
    "runs": {"checkpoints", "records", "store"},
    "live": {"errors", "records", "runs", "store"},
    "tracking": {"errors", "lineage", "records", "runs", "serving", "storage", "store"},
    "exhibits": {
        *("errors", "lineage", "params", "storage", "store", "weights"),
        *("vae.generation", "vae.geometry"),
    },
    "hardware": set(),
    "command": {"errors"},
    "vae.distributions": set(),
    "vae.images": set(),
    "vae.priors": {"vae.distributions"},
    "vae.networks": {"vae.distributions", "vae.images", "vae.priors"},
    "vae.objective": {"vae.distributions", "vae.images", "vae.networks", "vae.priors"},
    "vae.fitting": {"params", "vae.distributions", "vae.images", "vae.networks", "vae.objective", "vae.priors"},
    "vae.symptoms": {"vae.images", "vae.networks", "vae.objective"},
    "vae.latents": {"vae.distributions", "vae.images"},
    "vae.generation": {"vae.distributions", "vae.images", "vae.networks"},
    "vae.estimates": set(),
    "vae.evaluation": {
        *("params", "vae.distributions", "vae.estimates", "vae.generation", "vae.images", "vae.latents"),
        *("vae.networks", "vae.objective"),
    },
    "vae.classifier": {"params", "vae.images"},
    "vae.distances": set(),
    "vae.calibration": {"vae.images"},
    "vae.geometry": {"vae.generation", "vae.images"},
    "vae.plain": {"params", "vae.networks"},
    "vae.autoencoder": {"vae.distributions", "vae.networks"},
    "vae.spaces": {"vae.images", "vae.networks"},
    "vae.gradients": {
        *("params", "vae.distributions", "vae.fitting", "vae.images", "vae.networks", "vae.objective"),
    },
    "vae.claims": {"vae.estimates", "vae.geometry"},
    "vae.assignment": {"vae.images"},
    "markdown": set(),
    "charts": {"lineage"},
    "results": {"markdown", "params", "records", "storage"},
    "features": {"errors", "lineage", "storage", "vae.classifier"},
    "vae.figures": {"params"},
    "vae.theory_figures": {"vae.figures"},
    "weights": {"errors", "lineage", "params", "storage", "vae.networks"},
}
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
    files = {f"{name.replace('.', '/')}.py" for name in imported_names(path) if name.startswith("pipeline.")}
    return {file for file in files if (root / file).exists()}


def module_of(stage: str) -> str:
    return MODULES.get(stage, stage.removeprefix("study/"))


def needed_modules(stage: str) -> set[str]:
    """The stage's module and all that it imports, directly or not, less those that cannot change a result."""
    found, waiting = set(), {f"pipeline/{module_of(stage)}.py"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imported_modules(ROOT / module) - RESULT_NEUTRAL - found
    return found


def wrong_deps(content: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stages whose code deps are not what they import, with the difference."""
    declared = {
        stage: {dep for dep in content["stages"][stage]["deps"] if re.match(r"pipeline/.*\.py$", dep)}
        for stage in STAGES
    }
    return {stage: declared[stage] ^ needed for stage in STAGES if declared[stage] != (needed := needed_modules(stage))}


def wrong_params(content: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stages whose params are not those that records and MLflow state, with the difference."""
    declared = {
        stage: {
            key.replace("${item.model}", "{model}")
            for key in content["stages"][stage]["params"]
            if isinstance(key, str)
        }
        for stage in STAGES
        if module_of(stage) in USED_BY_STAGE
    }
    used = {stage: set(USED_BY_STAGE[module_of(stage)]) for stage in declared}
    return {stage: declared[stage] ^ used[stage] for stage in declared if declared[stage] != used[stage]}


def test_a_stage_depends_on_exactly_the_modules_it_imports() -> None:
    assert wrong_deps(pipeline_file()) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_and_a_needless_dep_are_noticed(stage: str) -> None:
    changed = copy.deepcopy(pipeline_file())
    module = f"pipeline/{module_of(stage)}.py"
    changed["stages"][stage]["deps"].remove(module)
    changed["stages"][stage]["deps"].append("pipeline/tracking.py")
    assert wrong_deps(changed) == {stage: {module, "pipeline/tracking.py"}}


def test_a_figure_names_the_code_that_drew_it() -> None:
    for stage, modules in lineage.DRAWING.items():
        assert {f"pipeline/{module}.py" for module in modules} == needed_modules(stage)


def test_checkpoints_are_those_of_the_code_that_trains() -> None:
    assert {f"pipeline/{module}.py" for module in lineage.TRAINING} == needed_modules("train")


def test_declared_params_are_those_that_records_state() -> None:
    assert wrong_params(pipeline_file()) == {}


def test_a_changed_param_is_noticed() -> None:
    changed = copy.deepcopy(pipeline_file())
    changed["stages"]["train"]["params"].remove("kl_weight")
    changed["stages"]["render"]["params"].append("run")
    assert wrong_params(changed) == {"train": {"kl_weight"}, "render": {"run"}}


class Watched:
    """Parameters that note which leaves are read."""

    def __init__(self, section: BaseModel, seen: set[str], prefix: str = "") -> None:
        self._section, self._seen, self._prefix = section, seen, prefix

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if isinstance(value, BaseModel):
            return Watched(value, self._seen, f"{self._prefix}{name}.")
        if name in type(self._section).model_fields:
            self._seen.add(self._prefix + name)
        return value


def test_the_declared_leaves_are_read_and_no_others(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def load_watched() -> Params:
        return Watched(load_params(), seen)  # type: ignore[return-value]

    for module in (download, yardstick, train, evaluate, survey, autoencoder, theory, gradients, render):
        monkeypatch.setattr(module, "load_params", load_watched)

    def check(stage: str, model: str | None = None) -> None:
        declared = set(used_parameters(load_params(), stage, model))  # type: ignore[arg-type]
        assert {key for key in seen if not key.startswith("run.")} == declared, (stage, model)
        seen.clear()

    for source in ("folder", "cifar10", "shapes"):
        paths = {"path": "nowhere" if source == "folder" else None}
        urls = {"url": "file:///nowhere.tar.gz" if source == "cifar10" else None}
        changes = {"prior_components": 0, "data": {"source": source} | paths | urls}  # what a survey wants
        write_params(workspace, merged(TINY, changes))
        try:
            download.main()
        except InputError:
            assert source != "shapes"
    check("download")
    yardstick.main()
    check("yardstick")
    for model in MODELS:
        train.main(model)
        check("train", model)
    for model in MODELS:
        evaluate.main(model)
        check("evaluate", model)
    survey.main("fc")
    check("survey", "fc")
    theory.main("fc")
    check("theory", "fc")
    render.main()
    check("render")
    gradients.main("fc")
    check("gradients", "fc")
    autoencoder.main("fc")
    check("autoencoder", "fc")


def test_run_parameters_belong_to_no_stage() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert not re.search(r"^\s*- run\b", text, flags=re.MULTILINE)
    assert not any(key.startswith("run") for keys in USED_BY_STAGE.values() for key in keys)


@pytest.mark.parametrize("module", sorted(LAYERS))
def test_modules_know_only_the_layers_below(module: str) -> None:
    path = ROOT / "pipeline" / f"{module.replace('.', '/')}.py"
    known = {name.removeprefix("pipeline/").removesuffix(".py").replace("/", ".") for name in imported_modules(path)}
    assert known <= LAYERS[module]
    if module.startswith("vae."):
        assert not {name.partition(".")[0] for name in imported_names(path)} & FOREIGN_TO_THE_CORE
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"open", "print"}


def test_no_stage_imports_another() -> None:
    modules = {f"pipeline/{module_of(stage)}.py" for stage in STAGES}
    for module in modules:
        assert not imported_modules(ROOT / module) & (modules - {module})


def test_mlflow_is_known_to_its_five_modules_alone() -> None:
    users = {
        path.name
        for path in (ROOT / "pipeline").rglob("*.py")
        if any(name.partition(".")[0] == "mlflow" for name in imported_names(path))
    }
    assert users == {"store.py", "runs.py", "live.py", "tracking.py", "serving.py"}


def test_the_weighted_loss_stands_in_one_line() -> None:
    lines = [
        line
        for path in (ROOT / "pipeline").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"kl_weight\s*\*\s*[a-z_.]*rate|rate\s*\*\s*[a-z_.]*kl_weight", line)
    ]
    assert len(lines) == 1


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The committed reports, since a user's own `dvc repro` may have made others."""
    for folder in ("reports", "study/cells"):
        export("HEAD", PurePosixPath(folder), tmp_path / folder)
    return tmp_path


def test_readme_shows_the_numbers_of_the_committed_reports(published: Path) -> None:
    text = (ROOT / "README.md").read_text()
    assert readme.with_tables(text, published) == text, "python -m pipeline.readme makes the tables anew"


def test_numbers_changed_by_hand_are_noticed(published: Path) -> None:
    text = (ROOT / "README.md").read_text()
    blocks = list(readme.BLOCK.finditer(text))
    assert {block["name"] for block in blocks} == readme.TABLES.keys()
    for block in blocks:
        changed = re.sub(r"(\d)\.(\d)", r"\1.9\2", block["table"], count=1)
        assert changed != block["table"]
        forged = text[: block.start("table")] + changed + text[block.end("table") :]
        assert readme.with_tables(forged, published) == text


def test_every_pinned_requirement_is_exact_and_names_no_index() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.match(r"^[a-z0-9._-]+(\[[a-z,]+\])?==[^ ]+( ; .+)?$", line) for line in lines if line)
    pinned = {re.split(r"[\[=]", line)[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {re.split(r"[<>=]", requirement)[0] for requirement in wanted} <= pinned
