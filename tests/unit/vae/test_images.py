"""Do images survive becoming tensors, and does every one of them count once?"""

from __future__ import annotations

import pytest
import torch

from pipeline.sources import Split, make_splits
from pipeline.sources.shapes import SHAPE_CLASSES, draw_shapes
from pipeline.vae.images import batches, generator, to_float, to_uint8


def test_all_256_levels_survive_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_rounding_not_truncating() -> None:
    just_below = torch.tensor([99.9 / 255])
    assert to_uint8(just_below).item() == 100
    assert (just_below * 255).to(torch.uint8).item() == 99  # the wrong version


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_batches_show_every_image_once(shapes: torch.Tensor, batch_size: int) -> None:
    shown = torch.cat(list(batches(shapes, batch_size, generator(0, "shuffle"))))
    assert len(shown) == len(shapes)
    order = shown.flatten(1).double().mv(torch.arange(3072).double()).argsort()
    expected = to_float(shapes).flatten(1).double().mv(torch.arange(3072).double()).argsort()
    torch.testing.assert_close(shown[order], to_float(shapes)[expected], rtol=0, atol=0)


def test_flips_mirror_about_half_of_the_images_left_to_right(shapes: torch.Tensor) -> None:
    plain = torch.cat(list(batches(shapes, 50, generator(0, "shuffle"))))
    flipped = torch.cat(list(batches(shapes, 50, generator(0, "shuffle"), flips=True)))
    same = (flipped == plain).flatten(1).all(1)
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 10 < int(mirrored.sum()) < 40


@pytest.mark.usefixtures("workspace")
def test_splits_share_no_image_and_lose_none() -> None:
    train = Split(torch.arange(100, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(100))
    test = Split(torch.arange(100, 130, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(100, 130))
    splits = make_splits(train, test, validation=20, seed=0)
    assert {name: len(split) for name, split in splits.items()} == {"train": 80, "validation": 20, "test": 30}
    assert sorted(torch.cat([splits["train"].labels, splits["validation"].labels]).tolist()) == list(range(100))
    assert sorted(splits["test"].labels.tolist()) == list(range(100, 130))
    assert all(torch.equal(split.images.flatten().long(), split.labels) for split in splits.values())


def test_generators_are_told_apart_by_seed_and_purpose() -> None:
    draws = {
        torch.rand(1, generator=generator(seed, purpose)).item() for seed in (0, 1) for purpose in ("noise", "shuffle")
    }
    assert len(draws) == 4


def test_shapes_repeat_for_a_seed_and_are_evenly_spread_over_classes() -> None:
    first, again, other = (draw_shapes(200, generator(seed, "shapes")) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.bincount(first.labels).tolist() == [20] * len(SHAPE_CLASSES)
    assert first.images.shape == (200, 3, 32, 32)
    inside = (first.images[:, :, :, :] != first.images[:, :, :1, :1]).any(1).flatten(1).sum(1)
    assert int(inside.min()) > 5  # every image shows something
