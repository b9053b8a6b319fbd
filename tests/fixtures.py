"""Small real inputs for the tests: eight shapes, tiny networks, and a workspace to run stages in."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from mlflow.entities import Run
from mlflow.store.db import utils as db
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from PIL import Image
from pydantic import BaseModel
from selenium.webdriver.remote.webdriver import WebDriver
from sqlalchemy import Engine

from bench.explorer import chromium
from pipeline import download, evaluate, render, train
from pipeline.params import MODELS, load_params
from pipeline.sources.shapes import SHAPE_CLASSES, draw_shapes
from pipeline.tracking import runs, store
from pipeline.tracking.lineage import RECORD_TAG
from pipeline.vae.images import generator
from pipeline.vae.networks import VAE, Architecture, build_vae
from tests.processes import FORKS

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
ROOT = Path(__file__).parents[1]
HOOKS = str(ROOT / "tests/hooks")  # PYTHONPATH of processes to watch from within
MIGRATE = db._initialize_tables
TINY: Mapping[str, Any] = {
    "kl_weight": 1.0,
    "likelihood": "gaussian",
    "latent_dim": 4,
    "prior_components": 3,
    "seed": 0,
    "data": {"source": "shapes", "name": "shapes", "path": None, "url": None, "validation": 100},
    "train": {"epochs": 2, "batch_size": 50},
    "networks": {"fc": {"hidden": [16]}, "conv": {"channels": [4, 8]}},
    "run": {"threads": 1},
    "evaluate": {"importance_samples": 3, "importance_images": 20, "draws": 2, "pairwise_images": 40},
    "gradients": {
        "draws": 2,
        "pixels": 8,
        "largest_latent_dim": 2,
        "estimates": 50,
        "variance_images": 4,
        "variance_estimates": 2,
        "reference_estimates": 4,
    },
    "survey": {
        "radii": 5,
        "directions": 20,
        "pairwise_images": 20,
        "diagonals": 5,
        "images": 20,
        "components": 2,
        "outside": 0.1,
        "pairs": 4,
        "steps": 3,
    },
    "render": {
        "samples": 4,
        "reconstructions": 4,
        "interpolation_rows": 1,
        "traversal_directions": 2,
        "neighbour_rows": 2,
        "neighbours": 2,
    },
}


def copy_tables(engine: Engine) -> None:
    """MLflow's tables in an empty SQLite database; its hundred migrations, of seconds, run once for all tests."""
    made = Path(os.environ[FORKS]) / "tables.db"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            partial: Engine = db.create_sqlalchemy_engine(f"sqlite:///{made}.partial")
            MIGRATE(partial)  # type: ignore[no-untyped-call]
            partial.dispose()
            made.with_name(f"{made.name}.partial").rename(made)
    with contextlib.closing(sqlite3.connect(made)) as tables, contextlib.closing(engine.raw_connection()) as empty:
        tables.backup(empty.driver_connection)  # type: ignore[arg-type]


db._initialize_tables = copy_tables


@pytest.fixture(scope="session")
def shapes() -> torch.Tensor:
    """uint8 [50, 3, 32, 32]."""
    return draw_shapes(50, generator(0, "tests")).images


@pytest.fixture(params=["gaussian", "bernoulli"])
def likelihood(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["fc", "conv"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tiny_vae() -> Callable[..., VAE]:
    def build(model: str = "fc", likelihood: str = "gaussian", seed: int = 0, prior_components: int = 0) -> VAE:
        sizes = {"fc": (16,), "conv": (4, 8)}[model]
        return build_vae(Architecture(model, sizes, 4, likelihood, prior_components), seed)  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for name in ("reports", "study/cells"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("models", "data"), symlinks=True)
    shutil.copy2(ROOT / "study/params.yaml", folder / "study")
    return folder


@pytest.fixture
def published(published_folder: Path, tmp_path: Path) -> Path:
    """A copy of the committed reports, which a test may change."""
    return Path(shutil.copytree(published_folder, tmp_path / "published"))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes`."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(base[key], value) if isinstance(value, Mapping) else value
    return result


def write_params(folder: Path, changes: Mapping[str, Any]) -> None:
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(merged(committed, changes)))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with tiny parameters, in which stages run and which holds their MLflow store."""
    enter(tmp_path, monkeypatch)
    write_params(tmp_path, TINY)
    return tmp_path


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run once."""

    def make(parent: Path) -> None:
        folder = parent / "folder"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            enter(folder, patch)
            write_params(folder, TINY)
            for stage, read in run_stages(patch).items():
                (parent / stage).write_text("\n".join(read))

    return made_once(tmp_path_factory, "finished", make) / "folder"


def leaves_read(finished_folder: Path, stage: str) -> set[str]:
    """The parameters that a stage read in the folder in which every stage has run, by their dotted keys."""
    return set((finished_folder.parent / stage).read_text().splitlines())


@pytest.fixture
def finished(finished_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside the folder in which every stage has run; tests share it, so they leave it as it is."""
    enter(finished_folder, monkeypatch)
    return finished_folder


@pytest.fixture
def copied(finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside a copy of that folder, which a test may change; the store came along, as in a moved checkout."""
    folder = tmp_path / "copied"
    shutil.copytree(finished_folder, folder)
    _artifact_repos_cache.clear()  # by run id: MLflow would go on writing to the folder that was copied
    enter(folder, monkeypatch)
    return folder


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


def watch(module: ModuleType, patch: pytest.MonkeyPatch) -> set[str]:
    """The leaves of the parameters that the module reads from now on, by their dotted keys."""
    seen: set[str] = set()
    patch.setattr(module, "load_params", lambda: Watched(load_params(), seen))
    return seen


def run_stages(patch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Run every stage once; the parameters that each has read."""
    read = {}
    each: tuple[list[str], ...] = ([],)
    of_a_model: tuple[list[str], ...] = tuple([model] for model in MODELS)
    for module, runs_with in (
        (download, each),
        (train, of_a_model),
        (evaluate, of_a_model),
        (render, each),
    ):
        for arguments in runs_with:
            with patch.context() as watching:
                read["@".join([module.__name__.rpartition(".")[2], *arguments])] = watch(module, watching)
                module.main(*arguments)
    return read


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let stages run in `folder` as its own checkout with its own store; 300 shapes for training, 60 for test."""
    patch.chdir(folder)
    patch.setenv("DVC_ROOT", str(folder))
    patch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.delenv("DVC_EXP_NAME", raising=False)
    patch.setattr(download, "SHAPES_TRAIN", 300)
    patch.setattr(download, "SHAPES_TEST", 60)
    patch.setattr(runs, "_warned", False)


def all_runs(client: MlflowClient) -> list[Run]:
    """Those of trainings, finished or not."""
    return list(client.search_runs(store.experiment_ids(client), "tags.model LIKE '%'"))


def drawing_runs(client: MlflowClient) -> list[Run]:
    return list(client.search_runs(store.experiment_ids(client), f"tags.`{RECORD_TAG}` LIKE '%'"))


class Clone:
    """A clone of this checkout, uncommitted changes included, with tiny parameters committed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        if check and finished.returncode:
            raise AssertionError(f"{command} exited with {finished.returncode}:\n{finished.stdout}{finished.stderr}")
        return finished

    def python(self, code: str, **environment: str) -> str:
        """What a few lines of Python print in the clone."""
        return self.run("python", "-c", code, check=True, **environment).stdout

    def copy(self, folder: Path) -> Clone:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder, self.environment)

    def without_forks(self) -> Clone:
        """The clone, in which Python starts as it does for a user."""
        path = self.environment["PATH"].removeprefix(os.environ[FORKS] + os.pathsep)
        return Clone(self.folder, self.environment | {"PATH": path})

    def stage(self, stage: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `python -m pipeline <stage>` does, watched as tests/hooks says."""
        return self.run("python", "-m", "pipeline", *stage.split(), check=False, **environment)

    def repro(self, *arguments: str) -> set[str]:
        """Names of the stages that ran."""
        lines = self.run("dvc", "repro", *arguments).stdout.splitlines()
        return {line.split("'")[1] for line in lines if line.startswith("Running stage")}

    def edit_params(self, changes: Mapping[str, Any]) -> None:
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes)))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        self.run("git", *identity, "commit", "--quiet", "--message", message)

    def append(self, path: str, text: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(text)


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A fresh clone for a test that runs dvc; git has no identity there, as on a new machine."""
    clone = new_clone(tmp_path_factory.mktemp("clone"))
    yield clone
    shutil.rmtree(clone.folder.parent, ignore_errors=True)


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    try:
        with chromium() as started:
            yield started
    except FileNotFoundError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `dvc repro` has run and whose results are committed; tests take copies of it."""

    def make(parent: Path) -> None:
        clone = new_clone(parent)
        clone.repro()
        clone.commit("results")

    return clone_in(made_once(tmp_path_factory, "reproduced", make))


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of pytest's workers to need it fills, and that no test changes."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def clone_in(parent: Path) -> Clone:
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "MLFLOW_"))}
    path = os.pathsep.join([keep[FORKS], str(Path(sys.executable).parent), keep["PATH"]])  # where dvc finds its python
    own = {"HOME": str(parent / "home"), "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return Clone(parent / "checkout", keep | own)


def new_clone(parent: Path) -> Clone:
    clone = clone_in(parent)
    folder = clone.folder
    (parent / "home").mkdir()
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        published = name in ("dvc.lock", "study/dvc.lock") or name.startswith(("reports/", "study/cells/"))
        if name and (ROOT / name).exists() and not published:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    save_images(folder / "data/raw/tiny.tar")
    write_params(folder, merged(TINY, {"data": {"source": "folder", "name": "tiny", "path": "data/raw/tiny.tar"}}))
    clone.run("git", "init", "--quiet")
    clone.commit("start")
    return clone


@contextmanager
def serving(clone: Clone, *command: str) -> Iterator[tuple[str, str]]:
    """What a server printed until it was ready, and its address; {port} in the command stands for a free one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = clone.without_forks().environment | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        [part.format(port=port) for part in command], cwd=clone.folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        rest = threading.Thread(target=server.stdout.read)  # a full pipe would stop the server
        try:
            printed = ""
            while not all(event in printed for event in ("Application startup complete", "Uvicorn running on")):
                line = server.stdout.readline()
                assert line, printed
                printed += line
            rest.start()
            yield printed, f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            if rest.ident:
                rest.join()


def save_images(path: Path, test: int = 60) -> None:
    """An archive of 300 training and some test images in ten classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for split, count in (("train", 300), ("test", test)):
            drawn = draw_shapes(count, generator(0, split))
            for number, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
                content = io.BytesIO()
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "PNG")
                info = tarfile.TarInfo(f"{split}/{SHAPE_CLASSES[label]}/{number}.png")
                info.size = content.tell()
                content.seek(0)
                archive.addfile(info, content)
