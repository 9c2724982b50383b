"""docs/performance.md: replaces the text between two markers, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from .results import describe_machine
from .table import Rows, align, markdown

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "performance.md"
IMAGES: Final = ROOT / "docs" / "images"


class MarkerError(Exception):
    """The page lacks a marker."""


def replace(page: str, name: str, text: str) -> str:
    """The page with a new text between ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    Raises:
        MarkerError: the page does not have both, once each.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise MarkerError(f"the page needs {begin} and {end}, once each")
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def put(name: str, text: str, path: Path = PAGE) -> None:
    """Replace the text between the markers in the file."""
    path.write_text(replace(path.read_text("utf-8"), name, text), "utf-8")


def show(name: str, about: str, tables: list[Rows], *, docs: bool) -> None:
    """Print the tables under a line about the machine and the run; with ``docs``, put them into the page too.

    All columns but the first are numbers.
    """
    about = f"{describe_machine()['cpu']}, {about}:"
    sys.stdout.write("\n\n".join([about, *map(align, tables)]) + "\n")
    if docs:
        put(name, "\n\n".join([about, *(markdown(table, set(range(1, len(table[0])))) for table in tables)]))
