"""mypy and pyright, both strict, infer in `examples/` the types that its comments name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).with_name("examples")
REVEALED = EXAMPLES / "revealed.py"
REFUSED = EXAMPLES / "refused.py"


def marked(path: Path, pattern: str) -> dict[int, str]:
    """Line number → what the comment in it says."""
    found = {number: re.search(pattern, line) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)}
    return {number: match[1] for number, match in found.items() if match is not None}


def plain(revealed: str) -> str:
    """A type as a person writes it: without modules, a named tuple by its name."""
    revealed = re.sub(r"tuple\[.*, fallback=([\w.]+)\]", r"\1", revealed)
    return re.sub(r"(?:\w+\.)+(\w+)", r"\1", revealed)


def mypy(*paths: Path) -> list[tuple[Path, int, str, str]]:
    """Path, line, severity and text of everything that mypy has to say."""
    command = [sys.executable, "-m", "mypy", "--strict", "--output", "json", *map(str, paths)]
    done = subprocess.run(command, cwd=EXAMPLES.parents[2], capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert said, done.stdout + done.stderr
    return [(Path(one["file"]).resolve(), one["line"], one["severity"], one["message"]) for one in said]


def pyright(*paths: Path) -> list[tuple[Path, int, str, str]]:
    """The same of pyright."""
    # It takes the packages of the Python that is first on PATH, whatever --pythonpath says.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "pyright", "--outputjson", *map(str, paths)]
    done = subprocess.run(
        command,
        cwd=EXAMPLES.parents[2],
        env={**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [
        (Path(one["file"]).resolve(), one["range"]["start"]["line"] + 1, one["severity"], one["message"])
        for one in json.loads(done.stdout)["generalDiagnostics"]
    ]


@pytest.mark.parametrize("checker", [mypy, pytest.param(pyright, marks=pytest.mark.thorough)])
def test_type_checker_sees_the_types_and_mistakes_that_the_examples_name(
    checker: Callable[..., list[tuple[Path, int, str, str]]],
) -> None:
    said = checker(REVEALED, REFUSED)
    revealing = re.compile(r'(?:Revealed type is|Type of .+ is) "(.+)"$', re.DOTALL)
    revealed = {
        line: plain(match[1]) for path, line, _, text in said if path == REVEALED and (match := revealing.match(text))
    }
    assert revealed == marked(REVEALED, r"reveal_type\(.*\)  # (.+)$")
    refused = {(path, line) for path, line, severity, _ in said if severity == "error"}
    assert refused == {(REFUSED, line) for line in marked(REFUSED, r"  # (refused): ")}
