"""Does the benchmark still name functions that there are?"""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter

import pytest

from bench.speed import FIRST_WORK


@pytest.mark.parametrize("work", sorted(set(FIRST_WORK.values())))
def test_the_first_work_of_a_stage_is_a_function_of_the_pipeline(work: str) -> None:
    module, _, path = work.partition(":")
    assert callable(attrgetter(path)(import_module(module)))
