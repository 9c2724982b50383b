"""What is packaged, and how releases are built and tried."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_release_wheels_are_tried_by_every_codec_test() -> None:
    settings = (ROOT / "cibuildwheel.toml").read_text("utf-8")
    named = set(re.findall(r"tests/unit/(test_codec_\w+\.py)", settings))
    assert named == {path.name for path in (ROOT / "tests" / "unit").glob("test_codec_*.py")}


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        (["a.py", "lua/b.lua", "py.typed", "_codec.x.so"], ""),
        (["a.py", "lua/b.lua", "_codec.x.so"], "missing: helix_fast/py.typed"),
        (["a.py", "py.typed", "_codec.x.so"], "missing: helix_fast/lua/b.lua"),
        (["a.py", "lua/b.lua", "py.typed"], "missing: the compiled codec"),
        (["a.py", "lua/b.lua", "py.typed", "_codec.x.so", "notes.txt"], "does not belong: helix_fast/notes.txt"),
    ],
)
def test_wheel_that_lacks_or_adds_a_file_is_refused(tmp_path: Path, packed: list[str], complaint: str) -> None:
    package = tmp_path / "src" / "helix_fast"
    for name in ("a.py", "lua/b.lua", "py.typed"):
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
