"""Does the explorer's page show FC beside conv for whatever is chosen, and say what it lacks in a line?"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from pipeline import storage
from pipeline.errors import InputError
from pipeline.sources.shapes import draw_shapes
from pipeline.tools import explorer, ui
from pipeline.tracking.lineage import WEIGHTS_TAG
from pipeline.vae.images import generator
from tests.fixtures import ROOT


@pytest.fixture
def page(finished: Path) -> AppTest:
    page = AppTest.from_file(ROOT / "pipeline/tools/explorer.py", default_timeout=120).run()
    assert not page.exception
    return page


def images(page: AppTest) -> list[str]:
    """Addresses of the images shown, which their content makes."""
    return [url for image in page.image for url in image.value]


def test_each_part_shows_both_models_and_names_their_runs(page: AppTest) -> None:
    assert not page.error
    captions = [caption.value for caption in page.caption]
    runs = ["fully connected: fc kl=1", "convolutional: conv kl=1"]
    assert captions == [*runs, "original", *runs, *runs, *runs]
    links = [text.value for text in page.sidebar.markdown]
    assert all("http://127.0.0.1:5050/#/experiments/" in link for link in links)
    assert len(links) == 2


@pytest.mark.parametrize(("slider", "value"), [("seed", 7), ("share of the way", 0.9), ("A", 1.0)])
def test_a_slider_changes_the_images_of_both(page: AppTest, slider: str, value: float) -> None:
    before = images(page)
    (chosen,) = [found for found in page.slider if found.label == slider]
    chosen.set_value(value).run()
    assert not page.exception
    assert len(set(before) ^ set(images(page))) >= 4  # two models, before and after


def test_arcs_and_directions_can_be_chosen(page: AppTest) -> None:
    for radio in page.radio:
        for option in radio.options:
            radio.set_value(option).run()
            assert not page.exception
            assert not page.error


def test_an_upload_is_reconstructed_and_a_broken_one_is_a_message(page: AppTest) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((50, 70, 3), 200, np.uint8)).save(file, format="PNG")
    before = images(page)
    page.file_uploader[0].upload("mine.png", file.getvalue()).run()
    assert not page.error
    assert images(page) != before
    page.file_uploader[0].set_value(("broken.png", b"no image", "image/png")).run()
    (error,) = page.error
    assert error.value.startswith("broken.png: is no image that can be read")


def test_a_store_without_models_is_one_line(workspace: Path) -> None:
    page = AppTest.from_file(ROOT / "pipeline/tools/explorer.py", default_timeout=120).run()
    (error,) = page.error
    assert error.value.endswith("type make demo or make repro first")


def test_images_come_from_the_checkout_or_from_dvcs_cache_or_are_said_to_lack(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = storage.md5(storage.TRAIN_IMAGES)
    test = explorer.load_images(md5)
    monkeypatch.setattr(explorer, "cache", lambda: copied / "cache")
    (copied / "cache" / md5[:2]).mkdir(parents=True)
    shutil.move(storage.TRAIN_IMAGES, copied / "cache" / md5[:2] / md5[2:])
    assert torch.equal(explorer.load_images(md5), test)
    with pytest.raises(InputError, match=r"^found no images with md5 00000000 in data/train.safetensors or"):
        explorer.load_images("0" * 32)


@pytest.mark.usefixtures("finished")
def test_a_runs_network_is_the_one_that_was_trained() -> None:
    (run,) = ui.runs_with_models()["shapes"]["conv"]
    trained = explorer.load_model(run)
    assert trained.md5 == run.tags[WEIGHTS_TAG]
    assert explorer.newest([run]) == run


def test_paths_begin_and_end_where_they_should() -> None:
    ends = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    for on_arc in (False, True):
        path = explorer.between(ends, on_arc)
        assert path.shape == (explorer.STEPS, 2)
        torch.testing.assert_close(path[[0, -1]], ends)
    images = draw_shapes(30, generator(0, "shapes")).images
    means = torch.randn(30, 2, generator=generator(0, "means"))
    torch.testing.assert_close(explorer.path_of("all ones", means, images)[-1], torch.ones(2))
    for kind in explorer.WALKS[1:]:
        torch.testing.assert_close(explorer.path_of(kind, means, images)[explorer.STEPS // 2], means.mean(0))
