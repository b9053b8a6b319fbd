"""Are damages what they are called, and did the published yardstick order them?"""

from __future__ import annotations

import pytest
import torch

from pipeline import storage
from pipeline.tools.yardstick import LADDERS, rungs
from tests.fixtures import ROOT


def test_rungs_are_real_images_damaged_more_and_more() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(64, 192, (500, 3, 32, 32), generator=rng, dtype=torch.uint8)
    labels = torch.arange(500) % 10
    found = list(rungs(images, labels, 120, seed=0))
    assert [rung.strength for rung in found if rung.kind == "floor"] == [0, 1, 2, 3]
    first = next(rung.images for rung in found if rung.kind == "floor")
    assert torch.equal(first, images[:120])
    for kind in ("noise", "blur"):
        ladder = [rung for rung in found if rung.kind == kind]
        assert tuple(rung.strength for rung in ladder) == LADDERS[kind]
        errors = [(rung.images.float() - first.float()).square().mean().item() for rung in ladder]
        assert errors == sorted(errors)
    weak = next(rung.images for rung in found if (rung.kind, rung.strength) == ("noise", 8))
    assert (weak.float() - first.float()).std().item() == pytest.approx(8, rel=0.02)
    for rung in found:
        if rung.kind == "dropped classes":
            assert torch.equal(rung.images, images[labels >= rung.strength][:120])


def test_the_published_yardstick_is_accurate_and_orders_damages() -> None:
    published = storage.load_json(ROOT / "reports/metrics/yardstick.json")
    assert published["test_accuracy"] >= 0.85
    for kind in LADDERS:
        for distance in ("frechet", "kernel"):
            ladder = [rung[distance] for rung in published[kind].values()]
            assert sorted(ladder) == ladder, (kind, distance)
            assert ladder[0] > published["floor"][f"{distance}_high"], (kind, distance)
    for lost in ("recall", "coverage"):  # what is not there any more
        ladder = [published["floor"][lost], *(rung[lost] for rung in published["dropped classes"].values())]
        assert sorted(ladder, reverse=True) == ladder, lost
