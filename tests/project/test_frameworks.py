"""Frameworks of other projects: the library imports none of them, and each integration says what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "helix_fast"
FRAMEWORKS = [
    *("ag_ui", "agent_framework", "agents", "anthropic", "assistant_stream", "fastmcp", "google.genai", "langchain"),
    *("langchain_core", "langgraph", "litellm", "mcp", "mcp_types", "openai", "opentelemetry", "pydantic_ai"),
    *("starlette", "strands"),
]
OF_REDIS = {"opentelemetry"}  # redis itself looks for it
# Runs first: no framework can be imported, and an attempt is recorded.
WITHOUT_FRAMEWORKS = f"""
import importlib, json, sys
from importlib.abc import MetaPathFinder

class Finder(MetaPathFinder):
    tried = set()

    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {FRAMEWORKS!r}):
            self.tried.add(name)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Finder())
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FRAMEWORKS + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# What may need a framework: the integrations, the live page and the adapters of runs, imported when they are used.
ADAPTERS = [
    PACKAGE / "web" / "app.py",
    *sorted((PACKAGE / "integrations").rglob("*.py")),
    *(PACKAGE / "agents" / f"{name}.py" for name in ("langgraph", "openai_agents", "pydantic_ai")),
]


def test_no_room_but_the_integrations_imports_a_framework() -> None:
    others = [path for path in sorted(PACKAGE.rglob("*.py")) if path not in ADAPTERS]
    modules = [name_of(path) for path in others if path.stem not in ("__main__", "supervisor")]
    assert "helix_fast.usage.responses" in modules
    tried = run(f"for name in {modules!r}: importlib.import_module(name)\nprint(json.dumps(sorted(Finder.tried)))")
    assert set(json.loads(tried)) <= OF_REDIS


INTEGRATIONS = [name_of(path) for path in ADAPTERS if name_of(path).count(".") == 2]
# Each as if it were the first: what another one imported or looked for is forgotten. The package itself stays.
EACH_INTEGRATION = f"""
import helix_fast, helix_fast.sync, helix_fast.agents
there, found = set(sys.modules), {{}}
for name in {INTEGRATIONS!r}:
    Finder.tried.clear()
    try:
        importlib.import_module(name)
        said = None
    except ImportError as error:
        said = str(error)
    found[name] = [said, sorted(Finder.tried)]
    for other in [one for one in sys.modules if one.startswith("helix_fast.") and one not in there]:
        del sys.modules[other]
print(json.dumps(found))
"""


@cache
def imported() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(EACH_INTEGRATION))
    return found


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_integration_without_its_framework_says_what_to_install(name: str) -> None:
    said, tried = imported()[name]
    if said is not None or not set(tried) <= OF_REDIS:  # what needs no framework is no matter of an extra
        assert said is not None
        assert "pip install 'helix-fast[" in said
