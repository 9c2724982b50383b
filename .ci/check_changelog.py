"""Fails where the changelog does not tell of the released version, or of a change under src/.

    check_changelog.py          the version of pyproject.toml has a section
    check_changelog.py COMMIT   and what changed under src/ since that commit comes with a line in the changelog

A change that no user sees says `Changelog: none` in the message of one of its commits.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHANGELOG = "CHANGELOG.md"
NOT_SEEN = re.compile(r"^Changelog: none$", re.MULTILINE)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout  # noqa: S607


def missing_section() -> str:
    """Which version has no section; empty if there is one."""
    version = re.search(r'^version = "(.+)"$', Path("pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if version is None:
        return "pyproject.toml names no version"
    heading = rf"^## {re.escape(version[1])}( |$)"
    if re.search(heading, Path(CHANGELOG).read_text("utf-8"), re.MULTILINE):
        return ""
    return f"{CHANGELOG} has no section for version {version[1]}"


def missing_entry(base: str) -> str:
    """What the changes since `base` lack; empty if nothing."""
    since = f"{base}...HEAD"
    sources = git("diff", "--name-only", since, "--", "src").split()
    added = re.search(r"^\+[^+]", git("diff", "-U0", since, "--", CHANGELOG), re.MULTILINE)
    if not sources or added or NOT_SEEN.search(git("log", "--format=%B", f"{base}..HEAD")):
        return ""
    return f"{len(sources)} files under src/ changed (such as {sources[0]}), and {CHANGELOG} has no new line"


if __name__ == "__main__":
    problem = missing_section() or (missing_entry(sys.argv[1]) if len(sys.argv) > 1 else "")
    if problem:
        sys.exit(f"{problem}; see CONTRIBUTING.md, Changelog")
