"""What is packaged, and how releases are built and tried."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_release_wheels_are_tried_by_every_codec_test_and_the_contract() -> None:
    settings = (ROOT / "cibuildwheel.toml").read_text("utf-8")
    assert "pytest --noconftest --hypothesis-profile=ci -q tests/codec" in settings
    (command,) = re.findall(r'"pytest -q --backend=memory (.*)"', settings)
    assert [ROOT / name for name in command.split()] == sorted(ROOT.glob("tests/*/test_contract.py"))


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        (["a.py", "lua/b.lua", "py.typed", "static/p.html", "_codec.x.so"], ""),
        (["a.py", "lua/b.lua", "static/p.html", "_codec.x.so"], "missing: helix_fast/py.typed"),
        (["a.py", "py.typed", "static/p.html", "_codec.x.so"], "missing: helix_fast/lua/b.lua"),
        (["a.py", "lua/b.lua", "py.typed", "_codec.x.so"], "missing: helix_fast/static/p.html"),
        (["a.py", "lua/b.lua", "py.typed", "static/p.html"], "missing: the compiled codec"),
        (
            ["a.py", "lua/b.lua", "py.typed", "static/p.html", "_codec.x.so", "notes.txt"],
            "does not belong: helix_fast/notes.txt",
        ),
    ],
)
def test_wheel_that_lacks_or_adds_a_file_is_refused(tmp_path: Path, packed: list[str], complaint: str) -> None:
    package = tmp_path / "src" / "helix_fast"
    for name in ("a.py", "lua/b.lua", "py.typed", "static/p.html"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    wheel = tmp_path / "it.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in packed:
            archive.writestr(f"helix_fast/{name}", "")
        archive.writestr("helix_fast-1.dist-info/METADATA", "")
    check = [sys.executable, str(ROOT / ".ci" / "check_wheel.py"), str(wheel), str(tmp_path / "src")]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.stderr.strip() == complaint
    assert (result.returncode == 0) is (complaint == "")


def test_wheel_with_debug_information_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "it.whl"
    check = [sys.executable, str(ROOT / ".ci" / "check_wheel.py"), str(wheel), str(tmp_path)]
    for size, complaint in ((850_000, ""), (950_000, "too large: 950 kB, at most 900")):
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("helix_fast/_codec.x.so", bytes(size))
        result = subprocess.run(check, capture_output=True, text=True, check=False)
        assert result.stderr.strip() == complaint


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cibuildwheel 4 needs Python 3.11")
def test_release_builds_a_wheel_for_every_promised_python_and_system() -> None:
    spec = importlib.util.spec_from_file_location("check_identifiers", ROOT / ".ci" / "check_identifiers.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    assert check.problems(sys.executable) == []
    assert len(check.promised()) == 7 * 7


@pytest.fixture
def setup(tmp_path: Path) -> Path:
    """A copy of what a build reads, with nothing built."""
    shutil.copytree(
        ROOT / "src" / "helix_fast",
        tmp_path / "src" / "helix_fast",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__"),
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def build(setup: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    unset = {"HELIX_FAST_NO_EXTENSION", "HELIX_FAST_REQUIRE_EXTENSION", "HELIX_FAST_SANITIZE", "HELIX_FAST_PURE"}
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", "built"],
        cwd=setup,
        env={**{name: value for name, value in os.environ.items() if name not in unset}, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_sdist_has_every_file_of_the_package(setup: Path) -> None:
    """A wheel is built from it: what it lacks, no user has."""
    shutil.copy(ROOT / "MANIFEST.in", setup)
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats=tar", "--dist-dir=dist"]
    environment = {**os.environ, "HELIX_FAST_NO_EXTENSION": "1"}
    done = subprocess.run(command, cwd=setup, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = (setup / "dist").iterdir()
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
        (name,) = [name for name in opened.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", name)]
        page = (opened.extractfile(name) or io.BytesIO()).read().decode().partition("\n\n")[2]
    there = {path.relative_to(setup).as_posix() for path in (setup / "src" / "helix_fast").rglob("*") if path.is_file()}
    assert there - packed - {"src/helix_fast/_codec.html"} == set()
    # What the index shows has no files beside it.
    links = re.findall(r"\]\(([^)]+)\)|^\[[^\]]+\]: (\S+)$", page, re.MULTILINE)
    assert len(links) > 50
    assert [link for pair in links for link in pair if link and not link.startswith("https://")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="CC is not asked there")
def test_install_without_a_compiler_goes_on_in_plain_python_and_says_so(setup: Path) -> None:
    # An empty one is as good as the real one, whose translation takes long.
    for name in ("_codec.pyx", "_codec.pxd"):
        (setup / "src" / "helix_fast" / name).write_text("")
    done = build(setup, CC="false")
    assert done.returncode == 0, done.stderr
    assert "helix-fast is installed WITHOUT it" in done.stderr
    show = "import helix_fast.codec as c; print(c.__file__, c.ACCELERATED, c.ChunkEncoder.__module__)"
    shown = subprocess.run(
        [sys.executable, "-c", show],
        cwd=setup,
        env={**os.environ, "PYTHONPATH": str(setup / "built"), "HELIX_FAST_PURE": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [
        str(setup / "built" / "helix_fast" / "codec" / "__init__.py"),
        "False",
        "helix_fast.codec.plain.encode",
    ]
    assert "the compiled codec is missing" in shown.stderr
    assert build(setup, CC="false", HELIX_FAST_REQUIRE_EXTENSION="1").returncode != 0


def test_scripts_are_packed_without_comments_and_with_their_line_numbers(setup: Path) -> None:
    source = setup / "src" / "helix_fast" / "lua" / "odd.lua"
    source.write_text("-- why\n-- include other\nlocal a = 1 -- a\n  -- why\n\treturn a - -1\n")
    assert build(setup, HELIX_FAST_NO_EXTENSION="1").returncode == 0
    packed = (setup / "built" / "helix_fast" / "lua" / "odd.lua").read_text()
    assert packed == "\n-- include other\nlocal a = 1 -- a\n\n\treturn a - -1\n"
