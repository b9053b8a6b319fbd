"""Do runs survive what users do? Experiments, caches, clones, moves, servers, crowds, repetitions and deletions."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline import storage
from pipeline.params import MODELS
from pipeline.tracking.lineage import ORIGINAL_TAG, WEIGHTS_TAG
from pipeline.tracking.records import Record
from tests.fixtures import Clone, all_runs, serving

pytestmark = pytest.mark.slow

SYNC = "from pipeline.tracking import sync; sync.update_everything()"
BESIDE = """
from pipeline.tracking.experiments import run_experiment
run_experiment("beside", ["kl_weight=3"])  # as make demo does, here with params.yaml edited and no git identity
"""
SAMPLES = """
import mlflow, numpy
print(mlflow.pyfunc.load_model("models:/tiny-conv@latest").predict(numpy.array(2), {"task": "sample"}).shape)
"""


def copy_of(clone: Clone, folder: Path) -> Clone:
    """A copy whose store is rebuilt where it lies."""
    copy = clone.copy(folder)
    copy.python(SYNC)
    return copy


def client_of(clone: Clone) -> MlflowClient:
    return MlflowClient(f"sqlite:///{clone.folder / 'mlflow.db'}", f"sqlite:///{clone.folder / 'mlflow.db'}")


def complete(client: MlflowClient, run: Run, epochs: int = 2) -> bool:
    """Whether a run has its history, test metrics, weights, images and the files it was made under."""
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "validation/elbo")]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    wanted = {"samples.png", "weights.safetensors", "curves.csv", "params.yaml", "dvc.lock"}
    finished = run.info.status == "FINISHED" and WEIGHTS_TAG in run.data.tags
    return finished and steps == list(range(1, epochs + 1)) and "test/elbo" in run.data.metrics and wanted <= artifacts


def told(client: MlflowClient) -> dict[str, object]:
    """Everything that the store tells of its runs."""
    runs = {run.info.run_id: run for run in all_runs(client)}
    return {run_id: (run.to_dictionary(), client.list_artifacts(run_id)) for run_id, run in runs.items()}


def traced_runs(clone: Clone, path: Path) -> dict[str, set[str]]:
    """Ids of the runs to which a trace leads, by model, through the records of the workspace alone."""
    (found,) = json.loads(clone.run("python", "-m", "pipeline", "trace", "--json", str(path)).stdout)
    assert found["listed_in"] == storage.RUNS.as_posix()
    return {training["model"]: {run["id"] for run in training["runs"]} for training in found["trainings"]}


def run_queue(clone: Clone, experiments: dict[str, list[str]]) -> None:
    """Run experiments, all at once; one that DVC's workers lose now and then (treeverse/dvc#10673) is queued again.

    A worker may also miss the message that ends it, so nothing waits for workers.
    """
    folder, lost, status = clone.folder / ".dvc/tmp/exps/celery", list(experiments), ""
    try:
        for _ in range(5):
            for name in lost:
                clone.run(*experiments[name], "--queue", "--name", name)
            start = ["dvc", "queue", "start", "--jobs", str(len(experiments))]
            quiet = subprocess.DEVNULL  # the workers would hold a pipe
            subprocess.run(start, cwd=clone.folder, env=clone.environment, check=True, stdout=quiet, stderr=quiet)
            for _ in range(200):
                status = clone.run("dvc", "queue", "status").stdout
                if not re.search(r" (Queued|Running)$", status, re.MULTILINE):
                    break
            lost = [name for name in experiments if not re.search(rf" {name} .* Success$", status, re.MULTILINE)]
            if not lost:
                return
            clone.run("dvc", "queue", "remove", *lost, check=False)
    finally:
        for path in folder.glob("dvc-exp-worker-*.json"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
    raise AssertionError("\n".join([status, *(path.read_text() for path in sorted(folder.glob("*.out")))]))


def test_1_experiments_land_in_the_store_of_the_main_checkout(reproduced: Clone, tmp_path: Path) -> None:
    clone = copy_of(reproduced, tmp_path / "checkout")
    train = ["dvc", "exp", "run", "evaluate@fc"]
    clone.run(*train, "--temp", "--name", "temp", "--set-param", "kl_weight=3")
    clone.run("git", "diff", "--exit-code")
    run_queue(clone, {f"queued-{number}": [*train, "--set-param", f"kl_weight={number}"] for number in (4, 5, 6, 7)})
    clone.run(*train, "--name", "in-place", "--set-param", "kl_weight=2")  # last: the others begin at the commit
    client = client_of(clone)
    runs = {run.info.run_name: run for run in all_runs(client)}
    assert runs.keys() == {
        "fc kl=1",
        "conv kl=1",
        "fc kl=3 temp",
        "fc kl=4 queued-4",
        "fc kl=5 queued-5",
        "fc kl=6 queued-6",
        "fc kl=7 queued-7",
        "fc kl=2 in-place",
    }
    for name, run in runs.items():
        assert "test/elbo" in run.data.metrics, name
        assert {"weights.safetensors", "curves.csv"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert not list(clone.folder.rglob("mlruns"))
    assert [path.name for path in clone.folder.rglob("mlflow.db")] == ["mlflow.db"]


def test_2_results_from_the_run_cache_lead_to_the_run_that_made_them(reproduced: Clone, tmp_path: Path) -> None:
    clone = copy_of(reproduced, tmp_path / "checkout")
    figure = storage.FIGURES / "interpolation.png"
    before = traced_runs(clone, figure)
    clone.edit_params({"kl_weight": 4.0})
    assert clone.repro()
    between = traced_runs(clone, figure)
    clone.edit_params({"kl_weight": 1.0})
    assert clone.repro() == set()
    assert traced_runs(clone, figure) == before
    assert all(not before[model] & between[model] for model in before)
    clone.run("python", "-m", "pipeline", "trace", "--all")

    # The same bits trained anew in a copy, their evaluation from the cache: the new run has it as well.
    clone.append("pipeline/vae/training.py", "\n# a comment\n")
    clone.commit("a comment")
    clone.run("dvc", "exp", "run", "--temp", "--name", "again", "--set-param", "kl_weight=4", "evaluate@fc")
    clone.python(SYNC)
    again = [run for run in all_runs(client_of(clone)) if run.info.run_name == "fc kl=4 again"]
    assert ["test/elbo" in run.data.metrics for run in again] == [True]


def test_3_a_clone_shows_the_runs(reproduced: Clone, tmp_path: Path) -> None:
    origin = reproduced.copy(tmp_path / "origin")
    origin.run("dvc", "remote", "add", "--default", "folder", str(tmp_path / "remote"))
    origin.run("dvc", "push")
    origin.commit("a remote")
    originals = {run.info.run_id: run for run in all_runs(client_of(origin))}
    origin.run("git", "clone", "--quiet", str(origin.folder), str(tmp_path / "clone"))
    clone = Clone(tmp_path / "clone", origin.environment)

    clone.python(SYNC)
    client = client_of(clone)
    restored = all_runs(client)
    assert {run.data.tags[ORIGINAL_TAG] for run in restored} == originals.keys()
    for run in restored:
        original = originals[run.data.tags[ORIGINAL_TAG]]
        assert (run.info.run_name, run.data.params) == (original.info.run_name, original.data.params)
        assert run.data.metrics == original.data.metrics
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/rate")] == [1, 2]
        record = Record.load(clone.folder / storage.RUNS / f"train@{run.data.params['model']}.json")
        assert run.data.tags["original.started"] == record.started
        assert run.data.tags["original.ended"] == record.ended
        assert run.info.start_time == original.info.start_time
    before = told(client)
    clone.python(SYNC)
    assert told(client) == before

    clone.run("dvc", "pull", "dvc.yaml")  # of the study nothing was made, so nothing was pushed
    clone.python(SYNC)
    assert all(complete(client, run) for run in all_runs(client))
    assert clone.python(SAMPLES).strip() == "(2, 3, 32, 32)"
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_4_a_moved_checkout_opens_its_artifacts_and_loads_its_models(reproduced: Clone, tmp_path: Path) -> None:
    first = copy_of(reproduced, tmp_path / "first")
    first.folder.rename(tmp_path / "second")
    clone = Clone(tmp_path / "second", first.environment)
    clone.python(SYNC)
    client = client_of(clone)
    runs = all_runs(client)
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri.startswith(clone.folder.as_uri())  # and not where the first one was copied from
        assert complete(client, run)
        assert len(client.list_artifacts(run.info.run_id, "images")) == 2 * 2 * 2  # kinds, epochs, formats
    assert clone.python(SAMPLES).strip() == "(2, 3, 32, 32)"


def test_5_a_tracking_server_has_the_same(reproduced: Clone, clone: Clone, tmp_path: Path) -> None:
    place = ["--port", "{port}"]
    place += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    at_server = reproduced.copy(tmp_path / "home")
    (at_server.folder / "mlflow.db").unlink()
    shutil.rmtree(at_server.folder / "mlartifacts")
    with serving(at_server, "mlflow", "server", "--workers", "1", *place) as (_, uri):
        environment = {"MLFLOW_TRACKING_URI": uri}
        clone.run("dvc", "repro", MLFLOW_TRACKING_URI=uri)
        client = MlflowClient(uri)
        live = all_runs(client)
        assert {run.data.params["model"] for run in live} == {"fc", "conv"}
        clone.python(SYNC, **environment)
        live = all_runs(client)
        assert all(complete(client, run) for run in live)
        assert not any(ORIGINAL_TAG in run.data.tags for run in live)
        before = told(client)
        clone.python(SYNC, **environment)
        assert told(client) == before
        assert clone.python(SAMPLES, **environment).strip() == "(2, 3, 32, 32)"

        at_server.python(SYNC, **environment)  # a training that this server never saw, with the same bits
        assert len(all_runs(client)) == 4
        assert all(complete(client, run) for run in all_runs(client))
    for checkout in (clone, at_server):
        assert not [
            path for path in checkout.folder.rglob("ml*") if path.name in ("mlflow.db", "mlartifacts", "mlruns")
        ]


def test_6_eight_trainings_at_once_on_no_store_yet(clone: Clone, tmp_path: Path) -> None:
    clone.repro("download")
    started = []
    copies = [clone.copy(tmp_path / str(number)) for number in range(8)]
    for number, copy in enumerate(copies):
        copy.edit_params({"kl_weight": float(number)})
        environment = copy.environment | {"DVC_ROOT": str(clone.folder)}
        command = ["python", "-m", "pipeline", "train", "fc"]
        started.append(subprocess.Popen(command, cwd=copy.folder, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate()[1] for process in started]
    assert errors == [""] * 8
    client = client_of(clone)
    runs = all_runs(client)
    assert sorted(run.data.params["kl_weight"] for run in runs) == [f"{number:.1f}" for number in range(8)]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/elbo")] == [1, 2]
        assert {"weights.safetensors", "curves.csv"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_7_the_same_bits_again_are_two_whole_runs(reproduced: Clone, tmp_path: Path) -> None:
    clone = copy_of(reproduced, tmp_path / "checkout")
    assert clone.repro("--force", "--single-item", "train@fc") == {"train@fc"}
    client = client_of(clone)
    runs = [run for run in all_runs(client) if run.data.params["model"] == "fc"]
    assert len(runs) == 2
    assert all(complete(client, run) for run in runs)
    ids = {run.info.run_id for run in runs}
    assert traced_runs(clone, storage.FIGURES / "fc_samples.png") == {"fc": ids}


def test_8_what_was_deleted_stays_deleted_and_what_was_lost_comes_back(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    lost = {Record.load(clone.folder / storage.RUNS / f"train@{model}.json").run_id for model in MODELS}
    for path in clone.folder.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(clone.folder / "mlartifacts")
    clone.python(SYNC)
    client = client_of(clone)
    restored = all_runs(client)
    assert {run.data.tags[ORIGINAL_TAG] for run in restored} == lost
    assert all(complete(client, run) for run in restored)

    client.delete_run(restored[0].info.run_id)
    assert f"({restored[0].info.run_id}) was deleted in MLflow and stays deleted" in clone.python(SYNC)
    assert [run.info.run_id for run in all_runs(client)] == [restored[1].info.run_id]


def test_9_an_experiment_in_a_copy_beside_dvc_repro(reproduced: Clone, tmp_path: Path) -> None:
    clone = copy_of(reproduced, tmp_path / "checkout")
    clone.edit_params({"kl_weight": 2.0})
    with subprocess.Popen(
        ["dvc", "repro"], cwd=clone.folder, env=clone.without_forks().environment, stdout=subprocess.PIPE, text=True
    ) as repro:
        assert repro.stdout is not None
        while "Running stage" not in repro.stdout.readline():
            assert repro.poll() is None
        second = clone.run("dvc", "repro", check=False)
        assert second.returncode
        assert f"(PID {repro.pid}): " in second.stderr  # whom to ask, or to wait for
        clone.python(BESIDE)
        repro.stdout.read()
    assert repro.returncode == 0
    assert clone.repro() == set()
    clone.python(SYNC)
    client = client_of(clone)
    runs = {run.info.run_name: run for run in all_runs(client)}
    assert runs.keys() == {f"{model} kl={kl}" for model in MODELS for kl in ("1", "2", "3 beside")}
    assert all(complete(client, run) for run in runs.values())


def test_a_registered_model_answers_over_http(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    clone.python(SYNC)
    model = ["mlflow", "models", "serve", "--model-uri", "models:/tiny-conv@latest", "--env-manager", "local"]
    with serving(clone, *model, "--port", "{port}") as (_, address):
        content = {"inputs": [[[[0] * 32] * 32] * 3], "params": {"task": "encode"}}
        request = urllib.request.Request(
            f"{address}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            (latents,) = json.load(response)["predictions"]
    assert len(latents) == 4
