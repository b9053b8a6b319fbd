"""Do the images themselves decide which split they are in, whatever order they come in?"""

from __future__ import annotations

import pytest
import torch

from pipeline.sources import Split, make_splits


@pytest.mark.usefixtures("workspace")
def test_the_same_images_in_another_order_give_the_same_splits(shapes: torch.Tensor) -> None:
    images = torch.cat([shapes, shapes[:10]])  # some twice, under another label and under the same
    labels = torch.cat([torch.arange(50), torch.arange(5), torch.arange(10, 15)])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    splits, others = (
        make_splits(Split(images[indices], labels[indices]), Split(shapes, torch.arange(50)), validation=20, seed=0)
        for indices in (torch.arange(60), order)
    )
    for name, split in splits.items():
        assert torch.equal(split.images, others[name].images)
        assert torch.equal(split.labels, others[name].labels)
    assert splits["validation"].labels.tolist() != sorted(splits["validation"].labels.tolist())
