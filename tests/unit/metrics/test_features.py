"""Does the classifier learn, repeat itself and see what it should?"""

from __future__ import annotations

import torch

from pipeline.metrics.features import (
    FEATURES,
    SHIFT,
    Classifier,
    _mirrored_and_shifted,
    build_classifier,
    features_of,
    fit_classifier,
    logits_of,
)
from pipeline.params import Yardstick
from pipeline.sources.shapes import draw_shapes
from pipeline.vae.images import generator, to_float


def trained(seed: int, epochs: int) -> Classifier:
    drawn = draw_shapes(64, generator(0, "classifier"))
    settings = Yardstick(epochs=epochs, batch_size=16, learning_rate=0.1, weight_decay=0.0005)
    classifier = build_classifier(10, seed)
    fit_classifier(classifier, drawn.images, drawn.labels % 2, settings, seed)
    return classifier


def test_it_learns_and_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = (trained(seed, epochs=1).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    classifier = trained(0, epochs=6)
    logits = logits_of(classifier, features_of(classifier, draw_shapes(64, generator(0, "classifier")).images))
    assert set(logits.argmax(1).tolist()) <= {0, 1}


def test_features_do_not_depend_on_the_batch_size(shapes: torch.Tensor) -> None:
    classifier = build_classifier(10, 0)
    whole = features_of(classifier, shapes)
    assert whole.shape == (len(shapes), FEATURES)
    for batch_size in (1, 7, 64):
        torch.testing.assert_close(features_of(classifier, shapes, batch_size), whole, rtol=1e-5, atol=1e-6)


def test_building_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    build_classifier(10, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_moved_images_are_whole_images_moved_each_on_its_own() -> None:
    """An image with one bright pixel in the middle: it is still there, at most SHIFT (and the mirror) away."""
    images = torch.zeros(200, 3, 32, 32)
    images[:, :, 16, 16] = 1
    moved = _mirrored_and_shifted(images, generator(0, "test"))
    assert torch.equal(moved.flatten(1).sum(1), torch.full((200,), 3.0))
    rows, columns = moved[:, 0].nonzero()[:, 1], moved[:, 0].nonzero()[:, 2]
    assert set((rows - 16).tolist()) == set(range(-SHIFT, SHIFT + 1))
    assert set(columns.tolist()) == set(range(15 - SHIFT, 17 + SHIFT))


def test_unmoved_images_stay_as_they_are(shapes: torch.Tensor) -> None:
    image = to_float(shapes[:1]).expand(500, -1, -1, -1)
    moved = _mirrored_and_shifted(image, generator(0, "test"))
    same = [torch.equal(one, image[0]) or torch.equal(one, image[0].flip(-1)) for one in moved]
    assert 0 < sum(same) < 30  # 1 in 81
