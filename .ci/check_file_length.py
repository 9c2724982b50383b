"""Fails where a source file is over 400 lines: what is longer does more than one thing."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 400
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".lua"}


def too_long(folders: list[str]) -> list[str]:
    found = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                lines = len(path.read_bytes().splitlines())
                if lines > LIMIT:
                    found.append(f"{path}: {lines} lines, at most {LIMIT}")
    return found


if __name__ == "__main__":
    problems = too_long(sys.argv[1:])
    if problems:
        sys.exit("\n".join(problems))
