"""Does the page say what the study's numbers do?"""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from pipeline.study import report


def test_the_committed_page_is_made_of_the_committed_numbers(published: Path) -> None:
    claims, theory = (storage.load_json(published / path) for path in (report.CLAIMS, report.THEORY))
    assert (published / report.PAGE).read_text(encoding="utf-8") == report.render_report(claims, theory)


def test_a_page_with_other_verdicts_or_numbers_is_another_page(published: Path) -> None:
    claims, theory = (storage.load_json(published / path) for path in (report.CLAIMS, report.THEORY))
    text = report.render_report(claims, theory)
    for claim in claims["claims"]:
        turned = {"holds": "does not hold", "does not hold": "undecided", "undecided": "holds"}[claim["verdict"]]
        changed = claims | {"claims": [c | {"verdict": turned} if c is claim else c for c in claims["claims"]]}
        assert report.render_report(changed, theory) != text
        for part in claim["parts"]:
            assert f"| {part['value']:.3f} | {part['interval'][0]:.3f} to {part['interval'][1]:.3f} |" in text
    assert "{{" not in text


def test_a_mean_over_seeds_has_its_interval_and_a_single_training_none() -> None:
    assert report.shown({"value": 2.0, "interval": [1.0, 3.0]}, ".1f") == "2.0 (1.0 to 3.0)"
    assert report.shown({"value": 2.0, "interval": None}, ".1f") == "2.0"
