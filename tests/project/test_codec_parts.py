"""The two kinds of compiled parts, and what each must not do.

*Pure* parts turn bytes into values and back: no attribute is a future, a lane, a topology or a loop.
*Hot* parts are the inner loop of writers and readers: they call the objects that they are handed, import nothing and
decide no policy, that is no sleep, no retry and no timeout.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import helix_fast

PACKAGE = Path(helix_fast.__file__).parent
HOT = {"append", "reader", "subscribers"}
COMPILED = sorted(PACKAGE.glob("codec/compiled/*.pxi"))
PLAIN = sorted(PACKAGE.glob("codec/plain/*.py"))
CLIENT = re.compile(
    r"^\s*c?(?:import|from)\s+(?:redis|hiredis|asyncio|time|socket|os|random|threading)\b", re.MULTILINE
)
OF_A_CLIENT = re.compile(r"future|lane|topology|loop|waiter|task|call_soon|audience|presence|transport|connection")
POLICY = re.compile(r"sleep|retr(?:y|ies)|timeout|back_?off|deadline|wait_for|call_later|call_at")


def code(source: str) -> str:
    """A source without comments and docstrings."""
    without = re.sub(r'"""[\s\S]*?"""', "", source)
    return re.sub(r" *#.*", "", without)


def classes() -> dict[str, set[str]]:
    """Attributes of each class that `_codec.pxd` declares."""
    found: dict[str, set[str]] = {}
    declarations = code((PACKAGE / "_codec.pxd").read_text("utf-8"))
    for name, body in re.findall(r"^cdef class (\w+):\n((?:    .*\n|\n)*)", declarations, re.MULTILINE):
        attributes = [line.strip() for line in body.splitlines() if line and "(" not in line]
        found[name] = {re.split(r"[ *]", word)[-1] for line in attributes for word in line.split(",")}
    return found


def part_of(name: str) -> str:
    """Stem of the file that has the body of a class."""
    for path in (*COMPILED, PACKAGE / "_codec.pyx"):
        if re.search(rf"^cdef class {name}\b", path.read_text("utf-8"), re.MULTILINE):
            return path.stem
    raise AssertionError(f"{name} has no body")


CLASSES = classes()


def test_classes_are_read_from_the_declarations() -> None:
    assert {"Sequencer", "Window", "AppendFramer", "Rollup"} <= CLASSES.keys()
    assert "channel" in CLASSES["AppendFramer"]
    assert {"first", "last"} <= CLASSES["Rollup"]
    assert any(part_of(name) in HOT for name in CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_pure_class_has_no_attribute_of_a_client(name: str) -> None:
    if part_of(name) not in HOT:
        assert not [attribute for attribute in CLASSES[name] if OF_A_CLIENT.search(attribute)]


@pytest.mark.parametrize("path", [path for path in (*COMPILED, *PLAIN) if path.stem in HOT], ids=lambda path: path.name)
def test_a_hot_part_decides_no_policy(path: Path) -> None:
    assert not POLICY.findall(code(path.read_text("utf-8")))


@pytest.mark.parametrize("path", [path for path in COMPILED if path.stem in HOT], ids=lambda path: path.name)
def test_a_compiled_hot_part_imports_nothing(path: Path) -> None:
    assert not re.search(r"^\s*(?:import|from) (?!.*\bcimport\b)", code(path.read_text("utf-8")), re.MULTILINE)


@pytest.mark.parametrize("path", [PACKAGE / "_codec.pyx", *COMPILED, *PLAIN], ids=lambda path: path.name)
def test_no_part_imports_a_client_a_clock_or_a_socket(path: Path) -> None:
    source = re.sub(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", code(path.read_text("utf-8")), flags=re.MULTILINE)
    assert not CLIENT.search(source)
