"""Are damages what they are called, and do the published distances order them as the eye does?"""

from __future__ import annotations

import pytest
import torch

from pipeline import storage
from pipeline.metrics.features import EfficientNetLite0
from pipeline.sources.shapes import draw_shapes
from pipeline.storage.weights import load_feature_network
from pipeline.study.calibration import LADDERS, calibrate, rungs
from pipeline.vae.images import generator
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


KINDS = (*LADDERS, "prior samples by kl_weight")


@pytest.mark.parametrize("distance", ["frechet", "kernel"])
def test_published_distances_grow_with_each_damage_from_above_the_floor(distance: str) -> None:
    ladders = storage.load_json(ROOT / "reports/calibration.json")
    for kind in LADDERS:
        ladder = [rung[distance] for rung in ladders[kind].values()]
        assert sorted(ladder) == ladder, kind
        assert ladder[0] > ladders["floor"][f"{distance}_high"], kind
    rungs = {(kind, strength): rung[distance] for kind in KINDS for strength, rung in ladders[kind].items()}
    assert max(rungs, key=lambda rung: rungs[rung]) == ("prior samples by kl_weight", "0")


def test_published_sets_that_lack_classes_cover_less() -> None:
    ladders = storage.load_json(ROOT / "reports/calibration.json")
    floor, dropped = ladders["floor"], ladders["dropped classes"]
    recall = [floor["recall"], *(rung["recall"] for rung in dropped.values())]
    assert sorted(recall, reverse=True) == recall
    assert floor["coverage_low"] > dropped["5"]["coverage"] > dropped["7"]["coverage"]  # two it does not notice


def test_of_a_few_shapes_stronger_damage_is_further_away() -> None:
    count = 300  # of fewer, Fréchet's bias is larger than the weakest damage
    drawn = draw_shapes(6 * count, generator(0, "calibration"))
    steps = rungs(drawn.images[: 4 * count], drawn.labels[: 4 * count], count, seed=0)
    found = calibrate(EfficientNetLite0(load_feature_network()).featurize, steps, drawn.images[4 * count :], count)
    floor = found["floor"]["frechet"]
    blur = [floor, *(rung["frechet"] for rung in found["blur"].values())]
    assert sorted(blur) == blur
    two, *more = (rung["frechet"] for rung in found["dropped classes"].values())
    assert floor < two < min(more)  # triangles, checkers and stripes alone are nearer than those with bars and columns
    assert all(rung["frechet"] > 2 * floor for rung in found["noise"].values())  # drawn areas have none of their own
