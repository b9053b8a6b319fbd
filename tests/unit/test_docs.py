"""Can a reader follow README and docs/? Every link, command and path in them leads to something."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.__main__ import STAGES, TOOLS
from pipeline.tools.tables import pages
from tests.fixtures import ROOT

MOST_LINES = 150  # of README
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|(?<=\n\n)(?: {4}[^\n]+\n)+|`[^`]+`", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TARGET = re.compile(r"^([\w-]+):", re.MULTILINE)
PAGES = [path.relative_to(ROOT).as_posix() for path in (*pages(ROOT), ROOT / "CONTRIBUTING.md")]


def surplus_lines(text: str) -> int:
    """How many lines more than README may have."""
    return max(0, text.count("\n") - MOST_LINES)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in HEADING.findall(text)}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links that lead to no file, or to no heading of one."""
    broken = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if re.match(r"\w+:", link) or (target.exists() and not anchor):
            continue
        if not target.is_file() or anchor not in anchors(text if not name else target.read_text(encoding="utf-8")):
            broken.append(link)
    return broken


def code(text: str) -> Iterator[str]:
    """Code blocks and code within lines."""
    for found in CODE.finditer(text):
        yield found.group().strip("`")


def unknown_commands(text: str) -> list[str]:
    """`make` targets that the Makefile lacks, and modules, stages and tools that `python -m` would not find."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    named, unknown = re.compile(r"\bmake\s+(?:[A-Z]+=\S+\s+)*([a-z][\w-]*)"), []
    for part in code(text):
        unknown += [f"make {name}" for name in named.findall(part) if name not in targets]
        for module, name in re.findall(r"-m\s+((?:pipeline|bench|tests)\b[\w.]*)(?:\s+([\w<-]+))?", part):
            if module == "pipeline" and not name.startswith("<") and name not in STAGES.keys() | TOOLS.keys():
                unknown.append(f"python -m pipeline {name}")
            elif module != "pipeline" and not (ROOT / f"{module.replace('.', '/')}.py").is_file():
                unknown.append(f"python -m {module}")
            elif module.startswith("pipeline."):
                unknown.append(f"python -m {module}")  # there is one way to run anything
    return unknown


def missing_paths(text: str) -> list[str]:
    """Paths below the project's folders, `<name>` standing for any, at which there is nothing."""
    named = re.compile(r"(?<![\w./])(?:bench|docs|pipeline|reports|study|tests)/[\w.*@<>/-]*")
    paths = {path.rstrip("./") for part in code(text) for path in named.findall(part)}
    return sorted(path for path in paths if not any(ROOT.glob(re.sub(r"<[^>]+>", "*", path))))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_readme_is_two_screens() -> None:
    assert surplus_lines(read("README.md")) == 0


def test_a_longer_readme_is_noticed() -> None:
    assert surplus_lines("a line\n" * (MOST_LINES + 2)) == 2


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert broken_links(ROOT / page, read(page)) == []


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("check", [unknown_commands, missing_paths])
def test_every_command_and_path_exists(page: str, check: Callable[[str], list[str]]) -> None:
    assert check(read(page)) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page, other = tmp_path / "docs/page.md", tmp_path / "README.md"
    other.write_text("# Title\n\n## From an image to its run, and back\n")
    page.parent.mkdir()
    text = "# Here\n[a](../README.md) ![b](nowhere.png) [c](../README.md#title) [d](../README.md#end) [e](#here)\n"
    text += "[f](#there) [g](https://example.org/#x) [h](../README.md#from-an-image-to-its-run-and-back) [i](../docs)\n"
    page.write_text(text)
    assert broken_links(page, text) == ["nowhere.png", "../README.md#end", "#there"]


def test_an_unknown_command_is_noticed() -> None:
    text = "To make things, `make demo`, `make demos`, `make PORT=1 dmeo`, `python -m pipeline <stage>`:\n\n"
    text += "    python -m pipeline train fc\n    python -m pipeline trian fc\n\n`python -m pipeline.trace`\n"
    text += "```\nX=1 make uy  # not y\npython -m bench.spead\n```\n"
    stages = ["python -m pipeline trian", "python -m pipeline.trace"]
    assert unknown_commands(text) == ["make demos", "make dmeo", *stages, "make uy", "python -m bench.spead"]


def test_a_missing_path_is_noticed() -> None:
    text = "pipeline/gone.py `pipeline/train.py` `pipeline/trian.py`, `tests/unit/<package>`, `tests/<module>.txt`\n"
    text += "\n    bench/spead.py reports/runs/\n\n`study/cells/*/reports` `../docs/none.md`\n"
    assert missing_paths(text) == ["bench/spead.py", "pipeline/trian.py", "tests/<module>.txt"]
