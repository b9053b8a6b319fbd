"""What comes before all tests: a process to fork others from, and the fixtures, where tests run."""

from __future__ import annotations

import contextlib

import pytest

from tests.processes import forks_on_demand


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that pytest-xdist's workers have in common, or the only one
        forks = contextlib.ExitStack()
        forks.enter_context(forks_on_demand())
        config.add_cleanup(forks.close)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Import what tests need once coverage is measured, but not in a process that only hands tests out."""
    if hasattr(session.config, "workerinput") or session.config.getoption("dist", "no") == "no":
        session.config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage is that of the tests of `make test`: the others work in processes of their own, or in long loops."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")
