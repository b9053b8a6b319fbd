"""Does training go on as if nothing were, whatever its MLflow server does, and is everything there afterwards?"""

from __future__ import annotations

import http.client
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow.tracking import MlflowClient

from pipeline import download, storage, train
from pipeline.tracking import runs, sync
from pipeline.tracking.records import Record, record_path
from pipeline.vae.training import Training
from tests.fixtures import TINY, Clone, all_runs, merged, serving, write_params
from tests.processes import fork

EPOCHS = 6
WARNING = "warning: MLflow cannot be reached, training goes on"


class Proxy(ThreadingHTTPServer):
    """Passes requests on to an MLflow server, answers 500, or holds them back until `release` is set."""

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.mode = "passes"
        self.held, self.release = threading.Event(), threading.Event()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def answer(self) -> None:
        body = self.body()
        if self.server.mode == "fails":
            self.send_error(500)
            return
        if self.server.mode == "hangs":
            self.server.held.set()
            self.server.release.wait()
        connection = http.client.HTTPConnection(self.server.upstream)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        self.send_response(response.status)
        self.send_header("Content-Type", response.getheader("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":  # as artifacts are sent
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def mlflow_server(folder: Path, port: str = "{port}") -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    place = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    environment = os.environ | {"PATH": path}
    with serving(Clone(folder, environment), "mlflow", "server", "--workers", "1", "--port", port, *place) as (
        _,
        address,
    ):
        yield address


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.release.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def train_with(monkeypatch: pytest.MonkeyPatch, uri: str, after: dict[int, Callable[[], object]]) -> None:
    """Train FC on a server; `after` has what happens once an epoch was logged."""

    class Watched(Training):
        def epochs(self, *arguments: Any) -> Iterator[dict[str, float]]:
            for metrics in super().epochs(*arguments):
                yield metrics
                after.get(int(metrics["epoch"]), lambda: None)()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(train, "Training", Watched)
    train.main("fc")


def assert_nothing_lost(uri: str) -> None:
    client = MlflowClient(uri)
    (run,) = all_runs(client)
    assert run.info.status == "FINISHED"
    assert not run.data.tags.get("status.reason")
    for key in ("train/elbo", "validation/rate"):
        logged = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key))
        history = Record.load(record_path("train@fc")).history
        assert logged == [(row["epoch"], row[key]) for row in history]
        assert len(logged) == EPOCHS
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"weights.safetensors", "curves.csv", "params.yaml"} <= artifacts


@pytest.fixture
def prepared(workspace: Path) -> Path:
    write_params(workspace, merged(TINY, {"train": {"epochs": EPOCHS}}))
    download.main()
    return workspace


def test_a_server_that_is_not_there_at_the_start_is_one_line_and_nothing_is_trained(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    ended = fork("-m", "pipeline", "train", "fc")
    (line,) = ended.communicate()[1].splitlines()
    assert ended.returncode == 1
    assert line.startswith("error: MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer (")
    assert not storage.weights_path("fc").exists()


def test_a_mistake_of_ours_is_no_outage(workspace: Path) -> None:
    record = Record("train@fc", {"kl_weight": 1.0, "likelihood": "gaussian"}, "shapes")
    with pytest.raises(KeyError, match="epoch"), runs.LiveRun(record, workspace / "lock") as run:
        run.log_epoch({"train/elbo": -1.0}, {})


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_has_everything(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("server")
    server = mlflow_server(folder)
    uri = server.__enter__()
    train_with(monkeypatch, uri, {2: lambda: server.__exit__(None, None, None)})
    assert capsys.readouterr().err.count("warning: ") == 1
    with mlflow_server(folder, port=str(urlsplit(uri).port)):
        sync.update_store()
        assert_nothing_lost(uri)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fails", "hangs"])
def test_a_server_that_fails_or_hangs_does_not_hold_training_up(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], mode: str,
) -> None:  # fmt: skip
    with mlflow_server(tmp_path_factory.mktemp("server")) as upstream, proxied(upstream) as proxy:

        def trouble() -> None:
            proxy.mode = mode

        def hanging() -> None:
            if mode == "hangs":
                assert proxy.held.wait(60)  # a request is on its way, and four epochs are done since
                assert not proxy.release.is_set()
                proxy.mode = "passes"
                proxy.release.set()

        train_with(monkeypatch, proxy.uri, {2: trouble, EPOCHS: hanging})
        warned = capsys.readouterr().err
        assert warned.count("warning: ") == (mode == "fails")
        assert warned.startswith(WARNING if mode == "fails" else "")
        proxy.mode = "passes"
        sync.update_store()
        assert_nothing_lost(proxy.uri)
