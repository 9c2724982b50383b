"""The README's Python examples run as they stand and print what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"


def programs() -> list[tuple[str, str]]:
    """The whole programs of the README, and what it says that each prints. `test_docs` runs the other blocks."""
    found = re.findall(r"```python\n(.*?)```(.*?)(?=```python|\Z)", README.read_text("utf-8"), re.DOTALL)
    return [(code, after.split("```")[1].removeprefix("\n")) for code, after in found if "asyncio.run(" in code]


def test_example_prints_what_the_readme_shows() -> None:
    assert programs()
    for code, printed in programs():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.rstrip() for line in done.stdout.splitlines()] == printed.splitlines()


def test_examples_pass_mypy_strict_as_they_stand(tmp_path: Path) -> None:
    for number, (code, _printed) in enumerate(programs()):
        program = tmp_path / f"example_{number}.py"
        program.write_text(code, "utf-8")
        mypy = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", str(program)]
        done = subprocess.run(mypy, capture_output=True, text=True, timeout=100, check=False, cwd=README.parent)
        assert done.returncode == 0, done.stdout


def test_every_command_is_named_and_every_link_leads_somewhere() -> None:
    from helix_fast.cli.app import app

    text = README.read_text("utf-8")
    assert [info.name for info in app.registered_commands if f"`helix-fast {info.name}" not in text] == []
    links = re.findall(r"\]\(([^):#]+)\)", text)
    assert "docs/wire-format.md" in links
    assert [link for link in links if not (README.parent / link).exists()] == []
