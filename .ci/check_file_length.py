"""Fails if a source file has over 400 lines: a longer file often does more than one thing.

A file that is better whole says so in its first line: "One file:", and the reason.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LIMIT = 400
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".lua"}
EXEMPT = re.compile(rb"\bOne file: \w")


def too_long(folders: list[str]) -> list[str]:
    found = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                lines = path.read_bytes().splitlines()
                if len(lines) > LIMIT and not EXEMPT.search(lines[0]):
                    found.append(f"{path}: {len(lines)} lines, at most {LIMIT}")
    return found


if __name__ == "__main__":
    problems = too_long(sys.argv[1:])
    if problems:
        sys.exit("\n".join(problems))
