"""The project's shape: what its files must be, so that a fresh machine can build, read and trust it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest

import helix_fast

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "helix_fast"


def test_no_file_is_over_400_lines(tmp_path: Path) -> None:
    check = [sys.executable, str(ROOT / ".ci" / "check_file_length.py")]
    folders = [str(ROOT / name) for name in ("src", "tests", "benchmarks")]
    result = subprocess.run([*check, *folders], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    long = tmp_path / "long.py"
    for first, code in (
        ("", 1),
        ('"""A page. One file: its parts are read together."""', 0),
        ("# A page. One file: its parts are read together.", 0),
        ('"""A page. One file:"""', 1),
        ('"""A page."""\n# One file: its parts are read together.', 1),
    ):
        long.write_text(first + "\n" * 401)
        assert subprocess.run([*check, str(tmp_path)], capture_output=True, check=False).returncode == code, first


def test_package_is_typed_and_carries_its_scripts() -> None:
    installed = Path(helix_fast.__file__).parent
    assert (installed / "py.typed").exists()
    assert list(installed.glob("*/lua/*.lua"))


def test_console_script_names_the_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="helix-fast")
    assert script.value == "helix_fast.cli:main"


def test_only_redis_hiredis_and_msgspec_are_needed() -> None:
    needed = [line for line in requires("helix-fast") or [] if "extra ==" not in line]
    assert sorted(re.split(r"[<>=!~ ;]", line)[0] for line in needed) == ["hiredis", "msgspec", "redis"]


def test_every_extra_the_docs_name_exists() -> None:
    extras = metadata("helix-fast").get_all("Provides-Extra") or []
    assert {"uvloop", "embedded", "cli", "starlette", "otel", "plot", "dev"} <= set(extras)


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_says_which_room_it_is(module: Path) -> None:
    source = module.read_text("utf-8")
    assert not source.strip() or source.startswith(('"""', 'r"""')), "a module starts with its docstring"
    assert not re.search(r"utils|^helpers|_impl|\d$", module.stem), "a name that says nothing"


def test_public_names_exist() -> None:
    assert helix_fast.__all__
    assert [name for name in helix_fast.__all__ if not hasattr(helix_fast, name)] == []


def test_supervisor_needs_only_the_standard_library() -> None:
    """It runs as `python -I -S`: an import of ours or of a dependency would end it at its first line."""
    program = f"import runpy; runpy.run_path({str(PACKAGE / 'embedded' / 'supervisor.py')!r})"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
