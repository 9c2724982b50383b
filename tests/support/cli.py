"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``helix-fast`` with these arguments; ``env`` is added to the environment."""
    return subprocess.run(
        [sys.executable, "-m", "helix_fast.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )
