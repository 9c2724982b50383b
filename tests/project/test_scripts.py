"""Headers of the scripts: each names every KEYS and ARGV slot and the reply. Lua is source code."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import helix_fast

PACKAGE = Path(helix_fast.__file__).parent
FILES = {path.stem: path.read_text("utf-8").splitlines() for path in sorted(PACKAGE.rglob("lua/*.lua"))}
LONGEST = 20  # slots that a script uses by number at most: where an open range ends
SLOT = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")
DESCRIBED = re.compile(r"\b(KEYS|ARGV)\[(\d+)(?:(-)(\d+)|(\.\.\.))?\]")


def header(name: str) -> list[str]:
    return list(itertools.takewhile(lambda line: line.startswith("--"), FILES[name]))


def described(lines: list[str]) -> set[tuple[str, int]]:
    """Slots that a header names: KEYS[1], KEYS[1-8], ARGV[4...]."""
    slots = set()
    for kind, first, to, last, more in DESCRIBED.findall("\n".join(lines)):
        end = int(last) if to else LONGEST if more else int(first)
        slots |= {(kind, number) for number in range(int(first), end + 1)}
    return slots


def included(name: str) -> set[str]:
    direct = set(re.findall(r"^-- include (\w+)$", "\n".join(FILES[name]), re.MULTILINE))
    return direct.union(*map(included, direct))


PARTS = set().union(*map(included, FILES))
SCRIPTS = sorted(FILES.keys() - PARTS)


def test_every_product_has_scripts() -> None:
    products = {"streams", "state", "usage", "locks"}
    assert {path.parents[1].name for path in PACKAGE.glob("*/lua/*.lua")} == products | {"integrations"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_header_names_every_slot_that_is_used(name: str) -> None:
    body = "\n".join(FILES[name][len(header(name)) :])
    used = {(kind, int(number)) for kind, number in SLOT.findall(body)}
    assert used <= described(header(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_header_names_the_reply_and_no_key_that_nothing_uses(name: str) -> None:
    lines = header(name)
    assert not any("not a script of its own" in line for line in lines)
    assert re.search(r"^-- Reply: ", "\n".join(lines), re.MULTILINE)
    text = "\n".join(line for part in (name, *included(name)) for line in FILES[part][len(header(part)) :])
    of_prelude = {slot for line in lines if "those of state_prelude" in line for slot in described([line])}
    keys = {slot for slot in described(lines) - of_prelude if slot[0] == "KEYS"}
    assert keys <= {(kind, int(number)) for kind, number in SLOT.findall(text)}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_part_says_that_it_is_included(name: str) -> None:
    first = header(name)[0]
    assert re.search(r"^-- Included .*; not a script of its own\.", first)
