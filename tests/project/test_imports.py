"""Who imports whom: which rooms may know which, and no circle. Imports for type checkers count as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
EXTENSION = "helix_fast._codec"

# A room is a folder or a file of helix_fast. "" is helix_fast/__init__.py: the public names.
GROUND = {"errors", "codec", "keys", "arguments", "clock", "flag", "reporting", "slices", "lua"}
SHARED = GROUND | {"transport", "options", "requests", "replies", "index", "store"}
PRODUCTS = {"streams", "state", "usage", "locks"}
EVERYTHING = SHARED | PRODUCTS | {"memory", "embedded", "connect", "interfaces", "agents", ""}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "flag": set(),
    "slices": set(),
    "codec": set(),
    "keys": {"errors"},
    "reporting": {"errors"},
    "arguments": {"codec", "errors"},
    "lua": {"codec", "slices"},
    "transport": {"arguments", "clock", "codec", "errors", "keys", "reporting"},
    # What the four products share.
    "replies": GROUND,
    "requests": GROUND | {"transport", "replies"},
    "index": GROUND | {"requests"},
    "options": {"errors", "transport"},
    "store": SHARED - {"store"},
    # The products do not know each other.
    **dict.fromkeys(PRODUCTS, SHARED),
    "interfaces": {"errors"} | PRODUCTS,
    "memory": SHARED | PRODUCTS,  # the products' classes over a server in the process
    "embedded": {"errors"},
    "connect": SHARED | PRODUCTS | {"memory", "embedded"},
    "": PRODUCTS | {"connect", "errors", "memory"},
    # Runs know the stores by their Protocols, and the structs that these take and give.
    "agents": {"interfaces", "errors", "keys", "flag", "reporting"} | PRODUCTS,
    # These know everything, and nothing knows them.
    "sync": EVERYTHING,
    "cli": EVERYTHING | {"web"},
    "web": EVERYTHING | {"integrations"},
    "integrations": EVERYTHING | {"sync"},
    "testing": EVERYTHING,
}


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted((SRC / "helix_fast").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Modules of helix_fast that a module imports, anywhere in it."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "helix_fast")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            if module.split(".")[0] == "helix_fast":
                named = (f"{module}.{alias.name}" for alias in node.names)
                yield from (one if one in known else module for one in named)


MODULES = modules()


@cache
def graph() -> dict[str, set[str]]:
    """What each module imports."""
    return {name: set(imports(name, path, MODULES.keys() | {EXTENSION})) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return ".".join(module.split(".")[1:2])


def short(module: str) -> str:
    return module.removeprefix("helix_fast.")


def circles(imported: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which is reached from every other."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for other in imported.get(waiting.pop(), set()) - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    reach = {name: reached(name) for name in imported}
    found: list[set[str]] = []
    for name in imported:
        if name in reach[name] and not any(name in circle for circle in found):
            found.append({other for other in reach[name] if name in reach.get(other, ())})
    return found


def test_every_room_has_a_row_in_the_table() -> None:
    assert {room(name) for name in MODULES} <= ROOMS.keys()


@pytest.mark.parametrize("name", sorted(ROOMS), ids=lambda name: name or "helix_fast")
def test_a_room_imports_only_rooms_that_it_may_know(name: str) -> None:
    inside = {module: others - {EXTENSION} for module, others in graph().items() if room(module) == name}
    wrong = {
        f"{short(module)} imports {short(other)}"
        for module, others in inside.items()
        for other in others
        if room(other) not in ROOMS[name] | {name}
    }
    assert not wrong


def test_the_table_itself_has_no_circle() -> None:
    assert circles(ROOMS) == []


def test_no_module_imports_itself_over_others() -> None:
    found = [{short(name) for name in circle} for circle in circles(graph())]
    assert found == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


def test_the_codec_is_used_through_its_front_alone() -> None:
    """Another import would bring the plain twin into a process that has the compiled one."""
    behind = {EXTENSION, *(name for name in MODULES if name.startswith("helix_fast.codec.plain"))}
    found = {
        (short(name), short(other))
        for name, others in graph().items()
        for other in others & behind
        if room(name) != "codec"
    }
    assert found == set()


def test_what_few_programs_need_is_imported_when_it_is_needed() -> None:
    few = {"difflib", "lupa", "helix_fast.cli", "helix_fast.embedded", "helix_fast.memory", "helix_fast.sync"}
    program = f"import sys, helix_fast; print(sorted({few!r} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
