"""The contract as the author of another store runs it: a project of its own, in which only the suite is ours."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helix_fast.testing import contract

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AREAS = ("locks", "resumable", "state", "streams", "usage")
SETTINGS = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
CONFTEST = """\
import uuid

import pytest

from helix_fast.memory import (
    InMemoryLockManager,
    InMemoryResumableStorage,
    InMemoryStateStore,
    InMemoryStreamManager,
    InMemoryUsageStore,
    MemoryServer,
)
from helix_fast.testing.contract.fixtures import *


class Locks(InMemoryLockManager):
    '''One of its own.'''


class OpenLocks(Locks):
    '''Gives a lock to every caller.'''

    async def acquire(self, session_id, **options):
        return await super().acquire(f"{session_id}-{uuid.uuid4().hex}", **options)


class Usage(InMemoryUsageStore):
    '''One of its own.'''


class TwiceUsage(Usage):
    '''Forgets which entries it has.'''

    async def record_entry(self, entry):
        if isinstance(entry, dict) and entry.get("id"):
            entry = {**entry, "id": entry["id"] + uuid.uuid4().hex}
        return await super().record_entry(entry)


@pytest.fixture
def new_lock_manager():
    server = MemoryServer()
    return lambda **options: LOCKS(server=server, **options)


@pytest.fixture
def new_usage_store():
    server = MemoryServer()
    return lambda **options: USAGE(server, **options)


@pytest.fixture
def new_stream_manager():
    server = MemoryServer()
    return lambda **options: InMemoryStreamManager(server, **options)


@pytest.fixture
def new_resumable_storage():
    server = MemoryServer()
    return lambda **options: InMemoryResumableStorage(server, **options)


@pytest.fixture
def new_state_store():
    server = MemoryServer()
    return lambda **options: InMemoryStateStore(server, **options)
"""


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """pytest's exit code, and what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=500)
    return done.returncode, done.stdout + done.stderr


def project(directory: Path, *, locks: str = "Locks", usage: str = "Usage") -> Path:
    (directory / "pytest.ini").write_text(SETTINGS)
    (directory / "conftest.py").write_text(CONFTEST.replace("LOCKS(", locks + "(").replace("USAGE(", usage + "("))
    for area in AREAS:
        (directory / f"test_{area}.py").write_text(f"from helix_fast.testing.contract.{area} import *\n")
    return directory


def names_of_tests(module: str) -> list[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text("utf-8")).body
    found = [one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [name for name in found if name.startswith(("test_", "Test"))]


def test_another_store_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    some = "TestRefreshAndRelease or is_refused_before or cancelled_waiter or counts_once or a_lost_producer"
    some += " or what_is_appended or created_session_is or sequences_start or reference_pages_entry"
    code, printed = run(project(tmp_path), "-v", "-rs", "-k", some)
    assert code == 0, printed
    counted = re.search(r"(\d+) passed, 1 skipped", printed)
    assert counted is not None, printed
    assert int(counted[1]) > 15
    assert "no fixture stop_renewing" in printed, "what cannot be tested says why"
    assert {area for area in AREAS if re.search(rf"test_{area}\.py::.* PASSED", printed)} == set(AREAS)


def test_a_store_that_breaks_the_contract_fails(tmp_path: Path) -> None:
    project(tmp_path, locks="OpenLocks", usage="TwiceUsage")
    code, printed = run(tmp_path, "test_locks.py", "test_usage.py", "-k", "not_given_again or an_id_counts_once")
    assert code == 1, printed
    assert re.search(r"FAILED test_locks.py::\S+not_given_again", printed)
    assert re.search(r"FAILED test_usage.py::\S+an_id_counts_once", printed)
    assert "assert True is False" in printed, "an assert shows what it compared"


@pytest.mark.parametrize("area", AREAS)
def test_an_area_has_every_test_of_its_modules_once(area: str) -> None:
    package = importlib.import_module(f"{contract.__name__}.{area}")
    modules = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    assert modules
    for module in modules:
        names = names_of_tests(module)
        assert names, module
        for name in names:
            assert getattr(package, name) is getattr(importlib.import_module(module), name), f"{name} is hidden"


def test_no_two_areas_have_a_test_of_the_same_name() -> None:
    packages = [importlib.import_module(f"{contract.__name__}.{area}") for area in AREAS]
    names = [name for package in packages for name in vars(package) if name.startswith(("test_", "Test"))]
    assert sorted(names) == sorted(set(names)), "a file that takes two areas would lose one"


def test_every_test_of_the_contract_runs_on_our_own_backends() -> None:
    """An area that no test_contract.py takes would be tested on memory only by others."""
    taken = "".join(path.read_text("utf-8") for path in Path(__file__).parents[1].glob("*/test_contract.py"))
    for area in AREAS:
        assert f"from {contract.__name__}.{area} import *" in taken
