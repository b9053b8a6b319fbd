"""Where do the images come from? CIFAR-10, a user's own images, or shapes drawn on the spot: the same files for all."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipeline import storage
from pipeline.errors import InputError, printable
from pipeline.params import Data, load_params, used_parameters
from pipeline.sources import Source, Split, content_sha256, make_splits
from pipeline.sources.folder import read_folder
from pipeline.sources.shapes import SHAPE_CLASSES, SHAPES_TEST, SHAPES_TRAIN, draw_shapes
from pipeline.tracking.records import Record
from pipeline.vae.images import generator

LEAST_TRAIN, LEAST_TEST = 2, 4  # images that have a deviation; two pairs for what lies between images
CIFAR10_TRAIN = "27de091f2abdc0e4ed9164d3b4fb2b59b5dc7c708f599772b3c2eeb50ff266bc"  # content_sha256 of the archive's


def main() -> None:
    """Prepare data/train.safetensors, with the validation images, and data/test.safetensors."""
    params = load_params()
    record = Record("download", used_parameters(params, "download"), params.data.name)
    train, test, classes, notes = read_source(params.data, params.seed)
    if len(train) < params.data.validation + LEAST_TRAIN:
        raise InputError(
            f"data.validation: found {params.data.validation}, expected at most {len(train) - LEAST_TRAIN}, since of "
            f"{len(train)} training images {LEAST_TRAIN} must remain"
        )
    if len(test) < LEAST_TEST:
        raise InputError(f"{params.data.name}: found {len(test)} test images, expected at least {LEAST_TEST}")
    splits = make_splits(train, test, params.data.validation, params.seed)
    header = {"name": params.data.name, "classes": classes}  # the source would tell equal images apart
    files = {storage.TRAIN_IMAGES: ("train", "validation"), storage.TEST_IMAGES: ("test",)}
    digests = [save_splits(path, {name: splits[name] for name in names}, header) for path, names in files.items()]
    record.data_md5, record.test_md5 = map(storage.md5, storage.IMAGES)
    record.metrics = {f"images/{name}": len(split) for name, split in splits.items()}
    record.save(inputs=[], outputs=storage.IMAGES)
    for label, class_name in enumerate(classes):
        counts = ", ".join(f"{int((split.labels == label).sum())} {name}" for name, split in splits.items())
        print(f"{printable(class_name)}: {counts} images")
    for kind, count in sorted(notes.items()):
        print(f"note: files {kind}: {count}")
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    print(f"{params.data.name}: {counts} images, content sha256 {', '.join(digests)}")


def save_splits(path: Path, splits: Mapping[str, Split], header: Mapping[str, object]) -> str:
    """Write images and labels of each split, and add to the header the sha256 of them all, which is returned."""
    arrays = {f"{name}_images": split.images.numpy() for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.labels.numpy() for name, split in splits.items()}
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(arrays[name].data)
    storage.save_tensors(path, arrays, {**header, "content.sha256": content.hexdigest()})
    return content.hexdigest()


def read_source(data: Data, seed: int) -> Source:
    """The source that `data` names; shapes are drawn from the seed."""
    if data.source == "cifar10":
        from pipeline.sources.cifar10 import read_cifar10  # with it comes torchvision, which takes seconds

        return read_cifar10(data.url)
    if data.source == "folder":
        source = read_folder(storage.main_checkout() / Path(data.path or ""))
        if data.name == "cifar10" and content_sha256(source.train) != CIFAR10_TRAIN:
            raise InputError(
                f"data.name: found 'cifar10', expected another name, because in {data.path} are other training images "
                "than in the official archive"
            )
        return source
    train = draw_shapes(SHAPES_TRAIN, generator(seed, "shapes train"))
    return Source(train, draw_shapes(SHAPES_TEST, generator(seed, "shapes test")), list(SHAPE_CLASSES))
