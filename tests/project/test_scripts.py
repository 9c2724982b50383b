"""Headers of the scripts: what each KEYS and ARGV slot is, and what comes back. Lua is source code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import helix_fast

PACKAGE = Path(helix_fast.__file__).parent
SCRIPTS = sorted(path for name in ("locks", "usage") for path in PACKAGE.glob(f"{name}/lua/{name.rstrip('s')}_*.lua"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_header_names_every_slot_and_the_reply(script: Path) -> None:
    lines = script.read_text("utf-8").splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    header, body = "\n".join(lines[:end]), "\n".join(lines[end:])
    assert re.search(r"^-- Reply: ", header, re.MULTILINE)
    used = set(re.findall(r"\b(?:KEYS|ARGV)\[\d+\]", body))
    described = set(re.findall(r"\b(?:KEYS|ARGV)\[\d+\]", header))
    assert used <= described
    assert {slot for slot in described - used if not slot.startswith("ARGV")} == set()
