"""How do many trainings run on many machines? Ray's workers fill DVC's run cache, from which this one takes results.

Each task is a few stages in a clone of the commit. What they made is taken in as it arrives, so whatever ends this
command, the next one sends only what is missing. DVC stays the truth: it finds the stages unchanged, or cached.
"""

import hashlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import PARAMS_FILE, Model, changed, load_yaml
from pipeline.study.cells import STUDY, stages_by_cell
from pipeline.tools import worker
from pipeline.tools.worker import Checkout, Result, Task
from pipeline.tracking import lineage, sync
from pipeline.tracking.experiments import git, require_history, run_experiment
from pipeline.tracking.records import VERSIONS, record_folders

LOCK = Path("study/dvc.lock")
MEMBER = re.compile(r"files/md5/(?P<first>\w{2})/(?P<rest>\w{30})(?P<folder>\.dir)?|runs/\w{2}/\w{64}/\w{64}")
NO_RAY = (
    "the package ray is not installed, which spreads trainings; type: "
    ".venv/bin/uv pip install --python .venv --group cluster --constraints requirements.txt"
)
WIDTH = 2**31 - 1  # characters of a line: YAML breaks none
LONG_PATH = re.compile(r"^(    - path: )(?=.{69})", re.MULTILINE)  # of a line over 80 characters, which DVC breaks
ATTEMPTS = 3  # at a task whose machine goes away


class LockDumper(yaml.CSafeDumper):
    """Writes dvc.lock as DVC itself does, byte for byte."""


LockDumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))


def spread(cluster: str) -> None:
    """Run what the study's cells lack on a cluster, and take in all that they make; `dvc repro` does the rest."""
    prepare()
    tasks = cell_tasks()
    print(f"cells of the study to run: {len(tasks)}", flush=True)
    locked = lineage.entries(LOCK.read_text("utf-8")) if LOCK.exists() else {}
    cache = cache_folder()
    failed = []
    for task, result in results(tasks, cluster):
        if isinstance(result, Exception):
            failed.append(f"cell {task.name}: {result}")
            continue
        take_in(result, cache)
        made = lineage.entries(result.locks[LOCK.as_posix()])
        for stage in (stage.partition(":")[2] for stage in task.stages):
            check_out(made[stage], cache)
            locked[stage] = made[stage]
        save_lock(locked)
    sync.update_store(*record_folders(Path()))
    if failed:
        raise InputError("\n".join(failed))


def sweep(overrides: Sequence[str], model: Model, cluster: str) -> None:
    """A DVC experiment for each combination of values, key=value,value: its training and evaluation, on a cluster."""
    prepare()
    base = load_yaml(PARAMS_FILE)
    tasks, settings = [], {}
    for chosen in combinations(overrides):
        name = "-".join([model, *(f"{key}-{value}" for key, value in (pair.split("=") for pair in chosen))])
        content = changed(base, {key: yaml.safe_load(value) for key, value in (pair.split("=") for pair in chosen)})
        files = {PARAMS_FILE.as_posix(): yaml.safe_dump(content, sort_keys=False).encode()}
        stages = [f"train@{model}", f"evaluate@{model}"]
        tasks.append(Task(name, stages, files, logged_live() | {"DVC_EXP_NAME": name}))
        settings[name] = chosen
    failed, cache = [], cache_folder()
    for task, result in results(tasks, cluster):
        if isinstance(result, Exception):
            failed.append(f"experiment {task.name}: {result}")
        else:
            take_in(result, cache)
            run_experiment(task.name, settings[task.name], [f"evaluate@{model}"])
    sync.update_everything()
    if failed:
        raise InputError("\n".join(failed))


def combinations(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """All choices of one value of each key.

    >>> combinations(["kl_weight=0.5,1", "seed=0"])
    [('kl_weight=0.5', 'seed=0'), ('kl_weight=1', 'seed=0')]
    """
    for override in overrides:
        if not re.fullmatch(r"[\w.]+=[^=]+", override):
            raise InputError(f"sweep: found {override}, expected key=value,value,... with a key of {PARAMS_FILE}")
    keys = [override.partition("=")[::2] for override in overrides]
    return list(itertools.product(*([f"{key}={value}" for value in values.split(",")] for key, values in keys)))


def prepare() -> None:
    """Have the images here; InputError where a clone is not what is here, or a record would name another commit."""
    require_history()
    found, dirty = lineage.commit()
    if found is None or dirty:
        raise InputError(
            "uncommitted changes of code or pipeline, expected none: a clone of the commit runs; commit them"
        )
    os.environ["PATH"] = worker.path_with_own_programs()  # dvc is beside this Python
    dvc("repro", "download")


def cell_tasks() -> list[Task]:
    """Cells with stages whose results are not here, or not those of their inputs."""
    stale = {name.partition(":")[2] for name in json.loads(dvc("status", "--json", STUDY.as_posix()))}
    tasks = []
    for cell, names in stages_by_cell().items():
        first = names[0]  # what the others use
        chosen = names if f"{first}@{cell}" in stale else [name for name in names if f"{name}@{cell}" in stale]
        if chosen:
            weights = Path("study/cells", cell, "models").rglob("*.safetensors") if first not in chosen else ()
            files = {path.as_posix(): path.read_bytes() for path in weights}
            tasks.append(Task(cell, [f"{STUDY}:{name}@{cell}" for name in chosen], files, logged_live()))
    return tasks


def logged_live() -> dict[str, str]:
    """What tells a stage where to log while it runs: a server that other machines reach."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return {"MLFLOW_TRACKING_URI": uri} if uri.startswith("http") else {}


def results(tasks: Sequence[Task], cluster: str) -> Iterator[tuple[Task, Result | Exception]]:
    """What the cluster makes of tasks, as each ends."""
    if not tasks:
        return
    with connected(cluster) as ray:
        expected = worker.versions(("python", *VERSIONS))
        require_equal_versions(ray, expected)
        checkout = ray.put(Checkout(git("bundle", "create", "--quiet", "-", "HEAD"), shared_files()))
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS)(worker.run_task)
        running = {remote.remote(checkout, task, expected): task for task in tasks}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done)
            try:
                yield task, ray.get(done)
                print(f"{task.name}: done, {len(running)} to go", flush=True)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                yield task, RuntimeError(" ".join(str(cause).split()))


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """Ray, at an address, "auto" for a cluster that this machine belongs to, or "local" for this machine's cores."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise InputError(NO_RAY) from None
    ray.cloudpickle.register_pickle_by_value(worker)
    try:
        ray.init(
            cluster,
            include_dashboard=False if cluster == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(f"cluster {cluster}: cannot be reached ({' '.join(str(error).split())[:300]})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def require_equal_versions(ray: Any, expected: Mapping[str, str]) -> None:
    """InputError naming each machine on which other versions would make other bits."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0)(worker.versions)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(expected)
        for node in nodes
    ]
    found = [worker.differences(expected, versions) for versions in ray.get(asked)]
    if wrong := [f"{node['NodeManagerHostname']}: {said}" for node, said in zip(nodes, found, strict=True) if said]:
        raise InputError("\n".join(wrong))


def shared_files() -> dict[str, bytes]:
    """What a clone lacks of this checkout: the images with the record of their download, parameters and locks."""
    lock = Path("dvc.lock")
    images = [output["path"] for output in lineage.entries(lock.read_text("utf-8"))["download"]["outs"]]
    paths = (*map(Path, images), PARAMS_FILE, lock, LOCK)
    return {path.as_posix(): path.read_bytes() for path in paths if path.exists()}


def take_in(result: Result, cache: Path) -> None:
    """Add what a clone's cache has to ours; InputError for what is no file of a cache, or not what its name says."""
    with tarfile.open(fileobj=io.BytesIO(result.cache)) as archive:
        for member in (member for member in archive if not member.isdir()):
            known = MEMBER.fullmatch(member.name)
            content = archive.extractfile(member) if known and member.isfile() else None
            if known is None or content is None:
                raise InputError(f"a worker returned {member.name}, expected files of a DVC cache alone")
            read = content.read()
            expected = known["first"] and known["first"] + known["rest"]
            if expected and hashlib.md5(read, usedforsecurity=False).hexdigest() != expected:
                raise InputError(f"a worker returned {member.name} with another content than its name says")
            if not (target := cache / member.name).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with storage.replacing(target) as partial:
                    partial.write_bytes(read)


def check_out(stage: Mapping[str, Any], cache: Path) -> None:
    """Put the outputs of an entry of dvc.lock where they belong."""
    for output in stage["outs"]:
        target, md5 = Path(output["path"]), output["md5"]
        target.parent.mkdir(parents=True, exist_ok=True)
        with storage.replacing(target) as partial:
            shutil.copyfile(cache / "files/md5" / md5[:2] / md5[2:], partial)


def save_lock(stages: Mapping[str, Any]) -> None:
    """Write the study's dvc.lock."""
    content = {"schema": "2.0", "stages": stages}
    text = yaml.dump(content, Dumper=LockDumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    with storage.replacing(LOCK) as partial:
        partial.write_text(LONG_PATH.sub(r"\1\n        ", text), encoding="utf-8")


def cache_folder() -> Path:
    """Where DVC keeps its cache."""
    return Path(dvc("cache", "dir").strip())


def dvc(*arguments: str) -> str:
    """What a DVC command prints; InputError where it fails."""
    finished = subprocess.run(["dvc", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise InputError(f"dvc {arguments[0]} failed with exit status {finished.returncode}, as told above")
    return finished.stdout
