"""How are tables and the numbers in them written in Markdown?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right of a first column of labels.

    >>> print(table(["model", "elbo"], [["fc", "-3.1"]]), end="")
    | model | elbo |
    | --- | ---: |
    | fc | -3.1 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_spread(value: float, interval: Sequence[float] | None, form: str) -> str:
    """A value with half of the width of its interval, where it has one."""
    if interval is None:
        return number(value, form)
    return f"{number(value, form)} ± {number((interval[1] - interval[0]) / 2, form)}"


def number(value: float, form: str) -> str:
    return format(int(value) if form.endswith("d") else value, form)


def median(values: Sequence[float], form: str = ".2f") -> str:
    """The median of some rounds and, in parentheses, what they range over."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
