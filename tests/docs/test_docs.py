"""Every Python block of the README and the docs runs, and prints what the block after it shows.

The blocks of a page share their names and run in order. `helix` is there from the beginning, connected to a real
server, which also stands in for `redis://localhost`. What a block needs and a reader does not, its page has in a
comment before it: `<!-- before: ... -->`. A page of an integration names what it imports, `<!-- needs: langgraph -->`;
`make test-integrations` runs it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

import helix_fast
from helix_fast import connect
from helix_fast.cli.app import app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- before:\n(?P<before>.*?)^-->\n)?^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)

NEEDS = re.compile(r"^<!-- needs: ([\w.]+) -->$", re.MULTILINE)


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


def page_to_run(page: Path) -> Any:
    """A page as a parameter, marked where it needs a framework."""
    needs = NEEDS.findall(page.read_text("utf-8"))
    return pytest.param(page, id=page.name, marks=[pytest.mark.framework] if needs else [])


@pytest.mark.parametrize("page", [page_to_run(page) for page in PAGES])
async def test_python_blocks_of_a_page_run(page: Path, server_url: str) -> None:
    text = page.read_text("utf-8")
    for name in NEEDS.findall(text):
        pytest.importorskip(name)
    blocks = blocks_of(text)
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


def shell_lines() -> list[tuple[str, str]]:
    """Every command that a page tells to type, with the page's name."""
    found = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for kind, block in re.findall(
            r"^```(sh|console)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            lines = [line for line in block.splitlines() if kind == "sh" or line.startswith("$ ")]
            found += [(page.name, line.removeprefix("$ ").split("  #")[0].strip()) for line in lines]
    return found


@pytest.mark.parametrize(("page", "line"), [one for one in shell_lines() if one[1]])
def test_commands_options_targets_and_extras_that_a_page_tells_to_type_exist(page: str, line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "helix-fast":
        command = typer.main.get_command(app).commands[arguments[0]]
        command.make_context(arguments[0], arguments[1:]).close()
    elif program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert arguments[0] in targets
    elif program == "pip":
        ((package, extras),) = re.findall(r"^([\w.-]+)\[(.+)\]$", arguments[-1])
        assert package == "helix-fast"
        there = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]")[1].split("\n[")[0]
        assert set(extras.split(",")) <= set(re.findall(r"^([\w-]+) = \[", there, re.MULTILINE))
    elif program == "docker":
        assert (ROOT / arguments[arguments.index("-f") + 1]).is_file()
    else:
        assert program in ("export", "git", "python"), line


def test_page_of_errors_has_cause_consequence_and_remedy_of_every_error_under_its_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| `(\w+)` \| (yes|no) \|$", page, re.MULTILINE)
    parts = re.findall(
        r"^<a id=\"(\w+)\"></a>\n\n### (\w+)\n\n`(\w+)`, (not )?retryable\.\n\n"
        r"- \*\*Cause\*\*: .{10,}\n- \*\*Consequence\*\*: .{10,}\n- \*\*Remedy\*\*: .{10,}\n",
        page,
        re.MULTILINE,
    )
    names = [name for name in helix_fast.errors.__all__ if name != "HelixError"]
    classes = {name: getattr(helix_fast.errors, name) for name in names}
    told = {(name, error.code, error.retryable) for name, error in classes.items()}
    assert {(name, code, retryable == "yes") for name, _anchor, code, retryable in rows} == told
    assert {(name, code, not negated) for _anchor, name, code, negated in parts} == told
    assert len(rows) == len(parts) == len(told) == len({error.code for error in classes.values()})
    assert all(anchor == name.lower() for name, anchor, _code, _retryable in rows)
    assert all(anchor == code for anchor, _name, code, _negated in parts)
    for name, error in classes.items():
        url, _, anchor = error.__new__(error).help_url.partition("#")
        assert url.endswith("/docs/errors.md"), name
        assert f'<a id="{anchor}"></a>' in page, name


def test_api_page_names_everything_that_is_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    unions = {"StreamChunk", "UsageEntry"}
    missing = [
        name
        for name in helix_fast.__all__
        if not name.endswith("Error") and name not in unions and not re.search(rf"\b{name}\b", page)
    ]
    assert not missing


def imports_of(source: str) -> set[str]:
    """The modules of ours that a program imports from."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "helix_fast"}


def test_pages_and_examples_import_from_public_modules_only() -> None:
    """From `helix_fast` itself, or from what needs an extra: nobody depends on where a class is defined."""
    extras = re.compile(r"helix_fast(\.agents|\.sync(\.agents)?|\.integrations\.\w+|\.testing(\.contract\.\w+)?)?")
    sources = {
        f"{page.name}:{block.line}": block.code for page in PAGES for block in blocks_of(page.read_text("utf-8"))
    }
    sources |= {path.name: path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")}
    private = {
        (place, name) for place, code in sources.items() for name in imports_of(code) if not extras.fullmatch(name)
    }
    assert private == set()
