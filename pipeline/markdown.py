"""How is a table written in Markdown?"""

from __future__ import annotations

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
