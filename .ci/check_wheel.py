"""Fails if a wheel lacks a file of the package, holds one that does not belong into it, or is too large.

Usage: check_wheel.py WHEEL SRC
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

SUFFIXES = {".py", ".pyi", ".lua"}
FOLDERS = {"static"}  # whose files belong to the package, whatever they are
# An extension with its debug information alone is larger.
MAX_BYTES = 900_000


def problems(wheel: str, src: str) -> list[str]:
    """One line for each file that is missing or too many, and for a wheel that is too large."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    package = Path(src) / "helix_fast"
    needed = {
        path.relative_to(src).as_posix()
        for path in package.rglob("*")
        if path.is_file() and (path.suffix in SUFFIXES or path.name == "py.typed" or path.parent.name in FOLDERS)
    }
    missing = [f"missing: {name}" for name in sorted(needed - packed)]
    if not any(name.startswith("helix_fast/_codec.") and name.endswith((".so", ".pyd")) for name in packed):
        missing.append("missing: the compiled codec")
    foreign = [
        f"does not belong: {name}"
        for name in sorted(packed - needed)
        if not name.startswith("helix_fast/_codec.") and ".dist-info/" not in name and ".libs/" not in name
    ]
    size = Path(wheel).stat().st_size
    large = [f"too large: {size / 1000:.0f} kB, at most {MAX_BYTES / 1000:.0f}"] if size > MAX_BYTES else []
    return missing + foreign + large


if __name__ == "__main__":
    found = problems(sys.argv[1], sys.argv[2])
    if found:
        sys.exit("\n".join(found))
    sys.stdout.write("nothing\n")
