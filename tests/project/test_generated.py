"""Files that a program of .ci/ writes are what it would write now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_blocking_classes_are_made_of_the_async_ones() -> None:
    program = Path(__file__).parents[2] / ".ci" / "make_sync.py"
    done = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
