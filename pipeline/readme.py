"""Which numbers does README show? Tables made from reports/, between markers that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline import storage
from pipeline.command import plain_command
from pipeline.comparisons import assignment, better, costs, likelihoods, peers, speed, tracking
from pipeline.errors import InputError
from pipeline.markdown import number, table
from pipeline.records import Record
from pipeline.results import distances, results

README = Path("README.md")
BLOCK = re.compile(r"(?P<start><!-- (?P<name>\w+) -->\n)(?P<table>.*?)(?P<end><!-- end -->)", re.DOTALL)


def main() -> None:
    """Fill README's tables in anew."""
    with storage.replacing(README) as partial:
        partial.write_text(with_tables(README.read_text(encoding="utf-8"), Path()), encoding="utf-8")


def with_tables(text: str, root: Path) -> str:
    """`text` with each marked table made anew from the reports below `root`."""
    return BLOCK.sub(lambda block: block["start"] + TABLES[block["name"]](root) + block["end"], text)


def require_known_tables(text: str) -> None:
    """InputError for a marker that no table belongs to."""
    for block in BLOCK.finditer(text):
        if block["name"] not in TABLES:
            raise InputError(f"{README}: found the marker {block['name']}, expected one of {', '.join(TABLES)}")


def yardstick(root: Path) -> str:
    """How accurate the classifier is, and what damages do to real pictures in its eyes."""
    content = storage.load_json(root / storage.METRICS / "yardstick.json")
    record = Record.load(root / storage.RUNS / "yardstick.json")
    ladders = [
        f"{kind} {strength}: {number(rung['frechet'], '.2f')}"
        for kind in content
        if kind not in ("test_accuracy", "floor")
        for strength, rung in content[kind].items()
    ]
    return (
        f"{content['test_accuracy']:.1%} of the test pictures of {record.data_name} right. "
        f"Fréchet distance of training pictures {content['floor']['frechet']:.2f}, damaged: {'; '.join(ladders)}.\n"
    )


def claims(root: Path) -> str:
    """What the assignment said and whether it holds, with the first measurement that the verdict rests on."""
    rows = []
    for claim in storage.load_json(root / storage.REPORTS / "claims.json")["claims"]:
        part = next(part for part in claim["parts"] if part["decides"] and part["verdict"] == claim["verdict"])
        low, high = part["interval"]
        measure = f"{part['measure']}: {part['value']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{claim['number']}. {claim['says']}", measure, claim["verdict"]])
    return table(["claim", "what decides, first of all: mean (95% interval)", "verdict"], rows)


TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": results,
    "distances": distances,
    "yardstick": yardstick,
    "claims": claims,
    "likelihoods": likelihoods,
    "assignment": assignment,
    "better": better,
    "peers": peers,
    "tracking": tracking,
    "speed": speed,
    "costs": costs,
}


if __name__ == "__main__":
    plain_command(main)
