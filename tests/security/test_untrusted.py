"""Nothing that is stored or received is ever run: no pickle, no eval, no shell, no code in scripts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import helix_fast

PACKAGE = Path(helix_fast.__file__).parent
RUNS = re.compile(r"(eval|exec|compile|__import__|os\.(system|popen)|(pickle|marshal|shelve|yaml|dill)\.\w+)")
ALLOWED = {("errors/base.py", "pickle.loads"), ("errors/base.py", "pickle.dumps")}  # pickled in the same line


def dangerous_calls(path: Path) -> set[tuple[str, str]]:
    """Calls that would run what they are given, or revive objects from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if RUNS.fullmatch(name) or any(word.arg == "shell" for word in node.keywords):
                found.add((path.relative_to(PACKAGE).as_posix(), name))
    return found


def test_no_stored_byte_is_run_or_revived() -> None:
    found = set().union(*(dangerous_calls(path) for path in PACKAGE.rglob("*.py")))
    assert found - ALLOWED == set()


def test_scripts_are_constant_and_build_no_code() -> None:
    for path in set(PACKAGE.rglob("*.lua")) - {
        PACKAGE / "memory" / "sandbox.lua"
    }:  # that one is the server of memory://
        text = re.sub(r"--.*", "", path.read_text("utf-8"))
        assert not re.search(r"\b(loadstring|load|dofile|setfenv|require)\s*\(", text), path.name
