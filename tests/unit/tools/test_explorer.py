"""Is the explorer's page that of the runs asked for, whole in itself, and small?"""

from __future__ import annotations

import re
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.explorer import untrained
from pipeline import storage
from pipeline.errors import InputError
from pipeline.params import MODELS
from pipeline.tools import explorer
from pipeline.tools.ui import bring_own_runs
from pipeline.tracking.lineage import WEIGHTS_TAG, StoredRun
from pipeline.tracking.store import stored_runs
from pipeline.vae.networks import VAE
from pipeline.vae.priors import GaussianMixture
from pipeline.vae.sampling import along, posterior_means, principal_directions
from tests.fixtures import ROOT

MOST_BYTES = 9_000_000


def run(number: int, model: str, data: str = "a", **tags: str) -> StoredRun:
    """One whose id begins with its number."""
    return StoredRun(f"{number}0", "", "", "", {"model": model}, {"model_id": "m", "data.md5": data, **tags})


def test_the_page_of_the_newest_runs_is_written_and_opened(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    explorer.main("", "", Path("page.html"), opens=True)
    assert opened == [(copied / "page.html").as_uri()]
    assert "Explore: page.html" in capsys.readouterr().out
    page = (copied / "page.html").read_text()
    for stored in (run for run in stored_runs() if "model" in run.params):  # others drew figures
        assert page.count(f"{stored.name}, run {stored.id[:8]}, kl_weight 1") == 5  # one for each part
        assert stored.tags[WEIGHTS_TAG][:8] in page
    assert re.findall(r'(?:src|href)="(?!data:,)[^"]*"|https?:', page) == []
    explorer.main("", "", Path("page.html"), opens=False)
    assert len(opened) == 1


def test_without_models_it_says_how_to_make_some(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"^MLflow has no FC and conv .*; type make demo or make repro first$"):
        explorer.main("", "", Path("page.html"), opens=False)


def test_lost_weights_are_one_line(copied: Path) -> None:
    bring_own_runs()
    (stored, *_) = stored_runs()
    shutil.rmtree(copied / "mlartifacts")
    with pytest.raises(InputError, match=rf"^run {stored.id}: its weights cannot be read \(.*\)$"):
        explorer.load_model(stored)


@pytest.mark.parametrize(
    ("fc", "conv", "chosen"),
    [("", "", ("4", "6")), ("2", "", ("2", "6")), ("", "3", ("4", "3")), ("1", "", ("1", "0")), ("8", "", ("8", "6"))],
)
def test_runs_are_the_newest_that_fit(fc: str, conv: str, chosen: tuple[str, str]) -> None:
    runs = [run(0, "conv", "b"), run(1, "fc", "b"), run(2, "fc"), run(3, "conv"), run(4, "fc"), run(6, "conv")]
    runs += [run(7, "fc", "c"), run(8, "fc", **{"study.cell": "fc-0"})]
    found = explorer.choose(runs, {"fc": fc, "conv": conv})
    assert tuple(found[model].id[0] for model in MODELS) == chosen


def test_runs_that_do_not_fit_are_one_line() -> None:
    runs = [run(0, "conv", "b"), run(1, "fc"), run(2, "conv")]
    with pytest.raises(InputError, match=r"^--fc: MLflow has no run 2 with a model of fc; make ui lists the runs$"):
        explorer.choose(runs, {"fc": "2", "conv": ""})
    with pytest.raises(InputError, match="trained on the same images"):
        explorer.choose(runs, {"fc": "", "conv": "0"})


def test_images_come_from_the_checkout_or_from_dvcs_cache_or_not_at_all(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = storage.md5(storage.TRAIN_IMAGES)
    here = explorer.load_images(md5)
    assert here is not None
    monkeypatch.setattr(explorer, "cache", lambda: copied / "cache")
    (copied / "cache" / md5[:2]).mkdir(parents=True)
    shutil.move(storage.TRAIN_IMAGES, copied / "cache" / md5[:2] / md5[2:])
    found = explorer.load_images(md5)
    assert found is not None
    assert torch.equal(found, here)
    assert explorer.load_images("0" * 32) is None


def test_at_the_sizes_of_params_yaml_the_page_has_at_most_9_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = explorer.render_page(untrained(), dict.fromkeys(MODELS, "run"), None)
    print(f"{len(page.encode()) / 1e6:.2f} MB")
    assert len(page.encode()) <= MOST_BYTES


def test_each_line_is_one_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, start in explorer.LINES.values():
        place, line = explorer.source_line(module, start)
        path, _, number = place.partition(":")
        assert (ROOT / path).read_text().splitlines()[int(number) - 1].strip() == line
        assert line.startswith(start)
    monkeypatch.setattr(explorer, "PACKAGE", tmp_path / "pipeline")
    (tmp_path / "pipeline").mkdir()
    for source in ("return 2\n", "return 1\nreturn 1 + 1\n"):
        (tmp_path / "pipeline/module.py").write_text(source)
        with pytest.raises(ValueError, match="values to unpack"):
            explorer.source_line("module.py", "return 1")


def test_weights_of_8_bits_are_off_by_half_a_step_at_most() -> None:
    weights = torch.randn(5, 3, 3, 3)
    weights[4] = 0
    packed = explorer.in_8_bits("w", weights)
    scale = packed["w.scale"].repeat_interleave(explorer.BLOCK)[: weights.numel()]
    assert packed["w"].dtype == torch.int8
    assert ((packed["w"] * scale - weights.flatten()).abs() <= 0.501 * scale).all()


def test_directions_and_the_mixture_are_the_models_own(tiny_vae: Any, shapes: torch.Tensor) -> None:
    vae: VAE = tiny_vae("conv", prior_components=2)
    assert isinstance(vae.prior, GaussianMixture)
    vae.prior.refit([vae.encode(torch.rand(50, 3, 32, 32))])
    tensors = explorer.tensors_of(vae, shapes)
    means = posterior_means(vae, shapes)
    walk = tensors["walks.center"] + torch.linspace(-3, 3, 5).unsqueeze(1) * tensors["walks.steps"][1]
    direction = principal_directions(means, 1)[0][0]
    torch.testing.assert_close(walk, along(means, direction, 5), atol=1e-5, rtol=1e-4)
    assert len(tensors["walks.steps"]) == 1 + 4  # brightness, and as many as there are
    torch.testing.assert_close(tensors["prior.shares"][-1], torch.tensor(1.0))
    assert "walks.steps" not in explorer.tensors_of(vae, None)
