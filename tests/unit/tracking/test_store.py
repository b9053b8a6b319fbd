"""Is the store created once, whoever comes first, and found again after a move?"""

from __future__ import annotations

import os
import ssl
import threading
import warnings
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pipeline import storage
from pipeline.errors import InputError
from pipeline.tracking import lineage, store, sync
from tests.fixtures import all_runs, enter
from tests.processes import at_once
from tests.refusals import refused

OPEN_AT_ONCE = """
import sys
from pipeline.tracking import store
print("ready", flush=True)
sys.stdin.readline()
print(store.experiment_id(store.open_store(), "shapes"))
"""


def test_four_processes_at_once_create_one_store(workspace: Path) -> None:
    assert at_once(OPEN_AT_ONCE, 4) == [("1\n", "")] * 4
    assert sorted(path.name for path in workspace.iterdir() if "partial" in path.name) == []


def test_a_moved_store_is_rebuilt_with_its_previews_and_the_old_one_kept(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.open_store()
    (aside,) = copied.glob(f"{lineage.DATABASE}.2*")
    assert capsys.readouterr().out == (
        f"note: mlflow.db came here from {finished}; it is kept as {aside.name}, a new one is made from the records\n"
    )
    sync.update_store()
    client = store.open_store()
    assert capsys.readouterr().out == ""
    runs = all_runs(client)
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri.startswith(copied.as_uri())
        local = client.download_artifacts(run.info.run_id, "samples.png")
        model = run.data.params["model"]
        assert Path(local).read_bytes() == (storage.FIGURES / f"{model}_samples.png").read_bytes()
        assert len(client.list_artifacts(run.info.run_id, "images")) == 2 * 2 * 2  # kinds, epochs, formats
        assert client.get_logged_model(run.data.tags["model_id"]).artifact_location.startswith(copied.as_uri())


def test_a_database_of_anothers_experiments_stays_as_it_is(workspace: Path) -> None:
    store.open_store().create_experiment("mine", "file:///elsewhere/artifacts/mine")
    (workspace / lineage.ARTIFACTS / "mine").mkdir(parents=True)
    assert store.open_store().get_experiment_by_name("mine") is not None


def test_artifacts_of_the_default_experiment_stay_beside_the_database(workspace: Path) -> None:
    experiment = store.open_store().get_experiment("0")
    assert experiment.artifact_location == f"{(workspace / lineage.ARTIFACTS).as_uri()}/0"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no host:1", "http:///nothing"])
def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with refused(f"MLFLOW_TRACKING_URI: {uri} does not answer (", "); start the server, or unset the variable"):
        store.open_store()


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://me:secret@127.0.0.1:9", "http://me:***@127.0.0.1:9 does not answer ("),
        ("postgresql://me:secret@127.0.0.1:9/runs", "postgresql://me:***@127.0.0.1:9/runs does not answer ("),
        ("nonsense://me:secret@host", "mend the address"),
    ],
)
def test_no_password_is_told_and_the_advice_fits_the_address(
    monkeypatch: pytest.MonkeyPatch, uri: str, told: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as caught:
        store.open_store()
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=36500))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    own = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    (folder / "own.pem").write_bytes(own.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "own.pem", folder / "key.pem"


def test_a_certificate_that_satisfies_mlflow_satisfies_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"https://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with refused(f"{uri} does not answer (", "certificate verify failed"):
            store.open_store()
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(own))
            store.open_store()
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        with warnings.catch_warnings(action="ignore"):
            store.open_store()
        server.shutdown()


@pytest.mark.parametrize("name", ["My%20Project", "My Projects/Jörg's #1 @home: a+b=c;", "50% käfer, isn't it?"])
def test_any_character_in_the_path_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / "projects" / name
    folder.mkdir(parents=True)
    enter(folder, monkeypatch)
    client = store.open_store()
    run = client.create_run(store.experiment_id(client, "shapes"))
    client.log_text(run.info.run_id, "text", "note.txt")
    assert (folder / lineage.DATABASE).exists()
    assert lineage.database() == folder / lineage.DATABASE
    assert (folder / lineage.ARTIFACTS / "shapes" / run.info.run_id / "artifacts/note.txt").read_text() == "text"
    assert store.open_store().get_run(run.info.run_id).info.run_id == run.info.run_id
    others = [path.name for path in (tmp_path / "projects").iterdir() if path.name != name.split("/")[0]]
    assert all("%25" in other for other in others)  # MLflow makes the folder that an address names, escaped as it is


def test_a_file_system_without_hard_links_will_do(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.experiment_id(store.open_store(), "shapes") == "1"
    assert not list(workspace.glob("*partial*"))


def test_a_folder_in_which_no_file_can_be_made_is_told_at_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/runs.db")
    with pytest.raises(OSError, match="/proc/nowhere"):
        store.open_store()


def test_a_server_has_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert lineage.database() is None


@pytest.mark.parametrize("prefix", ["", "{workspace}/"])
def test_another_database_has_its_artifacts_beside_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prefix.format(workspace=workspace)}elsewhere/runs.db")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")  # DVC runs experiments in copies
    client = store.open_store()
    experiment = client.get_experiment(store.experiment_id(client, "shapes"))
    assert experiment.artifact_location == (workspace / "elsewhere" / lineage.ARTIFACTS / "shapes").as_uri()
    assert not (workspace / lineage.DATABASE).exists()
