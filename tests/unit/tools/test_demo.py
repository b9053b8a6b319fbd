"""Does the demo's folder hold its own results and no others?"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline import storage
from pipeline.tools.demo import DATA_NAME, remove_other_results


def test_only_what_its_own_records_list_stays(copied: Path) -> None:
    root = Path(shutil.copytree(storage.REPORTS, "demo"))
    made = {path for path in root.rglob("*") if path.is_file()}
    (content,) = storage.load_json(root / "runs/render.json")
    assert content["data_name"] == DATA_NAME
    storage.save_json(root / "runs/report.json", [content | {"data_name": "published"}])
    for name in ("README.md", "comparisons/better/runs/render.json", "dvc.lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("published")
    remove_other_results(root)
    assert {path for path in root.rglob("*") if path.is_file()} == made | {root / "dvc.lock"}
    assert not (root / "comparisons").exists()
