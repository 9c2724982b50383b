"""Every Python block of the README and the docs runs, and prints what the block after it shows.

The blocks of a page share their names and run in order. `helix` is there from the beginning, connected to a real
server, which also stands in for `redis://localhost`. What a block needs and a reader does not, its page has in a
comment before it: `<!-- before: ... -->`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import helix_fast
from helix_fast import connect

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- before:\n(?P<before>.*?)^-->\n)?^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A Python block of a page."""

    before: str
    code: str
    printed: str | None
    line: int


def blocks_of(text: str) -> list[Block]:
    return [
        Block(found["before"] or "", found["code"], found["printed"], text.count("\n", 0, found.start("code")))
        for found in BLOCK.finditer(text)
    ]


def without_trailing_spaces(text: str) -> str:
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


async def run(source: str, names: dict[str, Any], page: str, line: int) -> str:
    """Run a block as in `python -m asyncio`; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = compile("\n" * line + source, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "asyncio.run(" in source:  # a whole program, with an event loop of its own
            await asyncio.to_thread(eval, code, names)
        else:
            waiting = eval(code, names)
            if waiting is not None:
                await waiting
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_python_blocks_of_a_page_run(page: Path, server_url: str) -> None:
    blocks = blocks_of(page.read_text("utf-8"))
    async with connect(server_url) as helix:
        names: dict[str, Any] = {"__name__": page.stem, "connect": connect}
        for block in blocks:
            names["helix"] = helix  # a block before may have made one of its own, and closed it
            await run(block.before, names, str(page), 0)
            code = block.code.replace('"redis://localhost"', repr(server_url))
            printed = await run(code, names, str(page), block.line)
            if block.printed is not None:
                assert without_trailing_spaces(printed) == block.printed, f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_block_is_passed_over(page: Path) -> None:
    """Indented or under another name, a block would not be found."""
    text = page.read_text("utf-8")
    assert len(re.findall(r"^\s*(?:```|~~~)\s*(?:py|pycon|python3?)\b", text, re.MULTILINE)) == len(blocks_of(text))
    assert text.count("<!-- before:") == sum(bool(block.before) for block in blocks_of(text))


def test_page_of_errors_names_every_error_as_it_is() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (yes|no) \|", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE
    )
    names = [name for name in helix_fast.errors.__all__ if name != "HelixError"]
    classes = {name: getattr(helix_fast.errors, name) for name in names}
    assert sorted(rows) == sorted(
        (name, error.code, "yes" if error.retryable else "no") for name, error in classes.items()
    )


def test_api_page_names_everything_that_is_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    unions = {"StreamChunk", "UsageEntry"}
    missing = [
        name
        for name in helix_fast.__all__
        if not name.endswith("Error") and name not in unions and not re.search(rf"\b{name}\b", page)
    ]
    assert not missing
