"""The README's Python examples run as they stand and print what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"


def test_example_prints_what_the_readme_shows() -> None:
    text = README.read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```.*?```\n(.*?)```", text, re.DOTALL)
    assert examples
    for code, printed in examples:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.rstrip() for line in done.stdout.splitlines()] == printed.splitlines()


def test_every_command_is_named_and_every_link_leads_somewhere() -> None:
    from helix_fast.cli.app import app

    text = README.read_text("utf-8")
    assert [info.name for info in app.registered_commands if f"`helix-fast {info.name}" not in text] == []
    links = re.findall(r"\]\(([^):#]+)\)", text)
    assert "docs/wire-format.md" in links
    assert [link for link in links if not (README.parent / link).exists()] == []
