"""The check that a change comes with its line in the changelog."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / ".ci" / "check_changelog.py"

Check = Callable[..., str]


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Commits files to a repository that has a base, and returns what the check says."""
    (tmp_path / "pyproject.toml").write_text('version = "1.2"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2 (not released)\n\n- One.\n")
    (tmp_path / "src").mkdir()
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "base")
    git(tmp_path, "tag", "base")

    def change(files: dict[str, str], message: str = "change") -> str:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", message)
        result = subprocess.run(
            [sys.executable, str(CHECK), "base"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (result.returncode == 0) is (result.stderr == "")
        return result.stderr.strip()

    return change


def test_change_of_the_sources_needs_a_line(check: Check) -> None:
    assert "src/a.py" in check({"src/a.py": "1\n"})
    assert check({"CHANGELOG.md": "# Changelog\n\n## 1.2 (not released)\n\n- One.\n- Two.\n"}) == ""


def test_removed_line_is_no_entry(check: Check) -> None:
    assert check({"src/a.py": "1\n", "CHANGELOG.md": "# Changelog\n\n## 1.2 (not released)\n"}) != ""


def test_change_that_no_user_sees_says_so(check: Check) -> None:
    assert check({"src/a.py": "1\n"}, "Rename a local\n\nChangelog: none") == ""


def test_change_outside_the_sources_needs_none(check: Check) -> None:
    assert check({"README.md": "1\n"}) == ""


def test_version_needs_a_section(check: Check) -> None:
    assert "1.3" in check({"pyproject.toml": 'version = "1.3"\n'})
