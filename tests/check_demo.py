"""Did `make demo` leave nine figures, and two finished runs with test metrics?"""

from __future__ import annotations

from pathlib import Path

from pipeline.tracking.store import open_store


def main() -> None:
    figures = list(Path("demo/figures").glob("*.png"))
    assert len(figures) == 9, figures
    client = open_store()
    experiment = client.get_experiment_by_name("shapes")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    assert {run.data.params["model"] for run in runs if "test/elbo" in run.data.metrics} == {"fc", "conv"}
    print(f"{len(figures)} figures, {len(runs)} finished runs")


if __name__ == "__main__":
    main()
