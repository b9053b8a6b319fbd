"""Does every source become one file, each time byte for byte, and is a broken download never taken for a whole?"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from pipeline import download, storage
from pipeline.sources import Split, cifar10, content_sha256
from pipeline.tracking.records import Record, record_path
from tests.fixtures import TINY, merged, write_params
from tests.refusals import refused

CLASSES = ["airplane", "automobile", "bird"]
THREE_WAYS_ON = ("data.url", "data.source: folder", "make demo")
BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


def configure(workspace: Path, **data: object) -> None:
    write_params(workspace, merged(TINY, {"data": data}))


def prepared() -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of both files, and the header of that with the training images."""
    arrays, header = storage.load_tensors(storage.TRAIN_IMAGES)
    assert arrays.keys() == {"train_images", "train_labels", "validation_images", "validation_labels"}
    return arrays | storage.load_tensors(storage.TEST_IMAGES)[0], header


def file_contents() -> list[bytes]:
    return [path.read_bytes() for path in storage.IMAGES]


def batch(number: int) -> dict[str, Any]:
    """Two images, for test four, as the official archive has them: rows of 3072 bytes, colour by colour."""
    count = 4 if BATCHES[number] == "test_batch" else 2
    pixels = np.random.default_rng(number).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": pixels, "labels": [(number + row) % 3 for row in range(count)]}


@pytest.fixture
def archive(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of 10 training and 4 test images in the official layout, whose hashes are the expected ones."""
    files = {name: pickle.dumps(batch(number)) for number, name in enumerate(BATCHES)}
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    path = tmp_path_factory.mktemp("mirror") / str(CIFAR10.filename)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "tgz_md5", storage.md5(path))
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in BATCHES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, md5[name]] for name in BATCHES[5:]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    return path


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """An address whose first caller gets exactly these bytes, then the end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{CIFAR10.filename}"
        thread.join()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_shapes_repeat_byte_for_byte_and_are_recorded(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SHAPES_TRAIN", 60)
    monkeypatch.setattr(download, "SHAPES_TEST", 20)
    configure(workspace, validation=40)
    download.main()
    first = file_contents()
    download.main()
    assert file_contents() == first

    arrays, header = prepared()
    assert {name: len(array) for name, array in arrays.items()} == {
        "train_images": 20, "train_labels": 20,
        "validation_images": 40, "validation_labels": 40,
        "test_images": 20, "test_labels": 20,
    }  # fmt: skip
    assert (header["name"], len(header["classes"])) == ("shapes", 10)

    record = Record.load(record_path("download"))
    assert (record.stage, record.data_name) == ("download", "shapes")
    assert record.outputs == {
        str(path): {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in zip(storage.IMAGES, first, strict=True)
    }
    assert [record.data_md5, record.test_md5] == [hashes["md5"] for hashes in record.outputs.values()]
    assert record.metrics == {"images/train": 20, "images/validation": 40, "images/test": 20}
    assert record.parameters["data.validation"] == 40


def test_it_ends_with_the_images_of_each_class_and_what_was_passed_over(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 4), ("test", 3)):
        for kind in ("cat", "dog\n"):
            for number in range(count):
                path = workspace / "own" / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    (workspace / "own/train/cat/Thumbs.db").touch()
    configure(workspace, source="folder", name="own", path="own", validation=4)
    download.main()
    cat, dog, note, total = capsys.readouterr().out.splitlines()
    counts = [int(word) for word in cat.split() if word.isdigit()]
    assert cat.startswith("cat: ")
    assert (sum(counts[:2]), counts[2]) == (4, 3)
    assert dog.startswith("dog\\n: ")
    assert note == "note: files hidden or an operating system's own, passed over: 1"
    assert total.startswith("own: 4 train, 4 validation, 6 test images, content sha256 ")


def test_a_folder_is_found_from_the_main_checkout(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path_factory.mktemp("checkout")  # dvc exp run --temp runs a stage elsewhere
    monkeypatch.setenv("DVC_ROOT", str(checkout))
    for number in range(12):
        path = checkout / "own" / ("test" if number < 4 else "train") / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    configure(workspace, source="folder", name="own", path="own", validation=4)
    download.main()
    first = file_contents()
    download.main()
    assert file_contents() == first

    arrays, header = prepared()
    assert (header["name"], header["classes"]) == ("own", ["cat", "dog"])
    shown = {name: arrays[f"{name}_images"][:, 0, 0, 0].tolist() for name in ("train", "validation", "test")}
    assert {name: len(numbers) for name, numbers in shown.items()} == {"train": 4, "validation": 4, "test": 4}
    assert sorted(shown["test"]) == [0, 1, 2, 3]
    assert sorted(shown["train"] + shown["validation"]) == list(range(4, 12))
    for name, numbers in shown.items():
        assert arrays[f"{name}_labels"].tolist() == [number % 2 for number in numbers]
    assert Record.load(record_path("download")).data_name == "own"


@pytest.mark.parametrize("validation", [9, 11])
def test_more_validation_than_training_images_is_told(workspace: Path, archive: Path, validation: int) -> None:
    configure(workspace, source="cifar10", name="cifar10", url=archive.as_uri(), validation=validation)
    with refused(f"data.validation: found {validation}, expected at most 8, since of 10 training images 2 must remain"):
        download.main()
    assert not any(path.exists() for path in storage.IMAGES)


def test_the_official_archive_is_read_from_another_address(workspace: Path, archive: Path) -> None:
    configure(workspace, source="cifar10", name="cifar10", url=archive.as_uri(), validation=4)
    download.main()
    arrays, header = prepared()
    assert header["classes"] == CLASSES
    assert arrays["train_images"].shape == (6, 3, 32, 32)
    assert arrays["validation_images"].shape == (4, 3, 32, 32)

    labels = {row.tobytes(): label for n in range(6) for row, label in zip(*batch(n).values(), strict=True)}
    found = {
        split: [(image.tobytes(), int(label)) for image, label in zip(images, arrays[f"{split}_labels"], strict=True)]
        for split, images in ((name, arrays[f"{name}_images"]) for name in ("train", "validation", "test"))
    }
    assert all(labels[pixels] == label for pairs in found.values() for pixels, label in pairs)
    assert {pixels for pixels, _ in found["test"]} == {row.tobytes() for row in batch(5)["data"]}
    assert len({pixels for pairs in found.values() for pixels, _ in pairs}) == 14


def test_a_folder_of_the_archives_images_gives_the_same_split_and_may_have_its_name(
    workspace: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(workspace, source="cifar10", name="cifar10", url=archive.as_uri(), validation=4)
    download.main()
    first, (expected, _) = file_contents(), prepared()

    for number, name in enumerate(BATCHES):
        for row, (pixels, label) in enumerate(zip(*batch(number).values(), strict=True)):
            path = workspace / "own" / name.partition("_")[0].replace("data", "train") / CLASSES[label]
            path.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0))
            image.save(path / f"{number}{row}.png")
    configure(workspace, source="folder", name="cifar10", path="own", validation=4)
    with refused("data.name: found 'cifar10'", "other training images than in the official archive"):
        download.main()
    images, labels = (
        torch.from_numpy(np.concatenate([expected[f"{split}_{kind}"] for split in ("train", "validation")]))
        for kind in ("images", "labels")
    )
    monkeypatch.setattr(download, "CIFAR10_TRAIN", content_sha256(Split(images, labels)))
    download.main()
    assert file_contents() == first


def test_a_whole_archive_is_not_fetched_again(workspace: Path, archive: Path) -> None:
    configure(workspace, source="cifar10", name="cifar10", url=archive.as_uri(), validation=4)
    download.main()
    first = file_contents()
    archive.unlink()
    download.main()
    assert file_contents() == first


def test_an_archive_with_another_md5_is_not_opened(
    workspace: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected = CIFAR10.tgz_md5, "0" * 32
    monkeypatch.setattr(CIFAR10, "tgz_md5", expected)
    configure(workspace, source="cifar10", name="cifar10", url=archive.as_uri(), validation=4)
    with refused(archive.as_uri(), found, expected, "not opened", "data.url"):
        download.main()
    assert list((workspace / "data" / "raw").iterdir()) == []
    assert not any(path.exists() for path in storage.IMAGES)


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///no/such/cifar-10-python.tar.gz", "No such file"),
        ("https://127.0.0.1:1/cifar-10-python.tar.gz", "refused"),
        ("https://", "no host given"),
        ("https://127.0.0.1:1/my copy.tar.gz", "control characters"),
        ("https://127.0.0.1:port/cifar-10-python.tar.gz", "port"),
    ],
)
def test_an_address_that_cannot_be_read_is_told_with_three_ways_on(workspace: Path, url: str, reason: str) -> None:
    configure(workspace, source="cifar10", name="cifar10", url=url, validation=4)
    with refused(url, reason, *THREE_WAYS_ON):
        download.main()
    assert list((workspace / "data" / "raw").iterdir()) == []


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500, id="cut short"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 500, id="chunk cut short"
        ),
        pytest.param(b"HTTP/1.0 404 Not Found\r\n\r\nno such page", id="not found"),
        pytest.param(b"", id="no answer"),
    ],
)
def test_a_broken_download_is_never_taken_for_a_whole_one(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / CIFAR10.filename
    path.write_bytes(b"an earlier file")
    with answering(answer) as url, refused(url):
        cifar10.fetch_archive(url, path, hashlib.md5(b"x" * 1000).hexdigest())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"an earlier file"


@pytest.mark.usefixtures("no_proxy")
def test_a_whole_download_arrives(tmp_path: Path) -> None:
    content = b"x" * 1000
    path = tmp_path / "new" / CIFAR10.filename
    with answering(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + content) as url:
        cifar10.fetch_archive(url, path, hashlib.md5(content).hexdigest())
    assert path.read_bytes() == content
