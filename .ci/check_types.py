"""Fails where a public symbol has no declared type, by `pyright --verifytypes`: users' type checkers infer nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
# The last one: of a parameter that takes such a class.
UNKNOWN_BASES: Final = (
    "Type of metaclass unknown",
    "Type of base class unknown",
    'Type of parameter "event_store" is partially unknown',
)


def incomplete() -> list[dict[str, Any]]:
    """The symbols whose type is unknown, or known by inference alone."""
    # It takes the packages of the Python that is first on PATH, whatever --pythonpath says.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "helix_fast", "--ignoreexternal", "--outputjson"],
        env={**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    if not symbols:
        sys.exit(f"pyright found no public symbols\n{done.stdout}{done.stderr}")
    return [each for each in symbols if each["isExported"] and not each["isTypeKnown"] and not of_framework(each)]


def of_framework(symbol: dict[str, Any]) -> bool:
    """Whether all that is unknown is a class of a framework, which is not installed here; mypy sees it elsewhere."""
    found = [problem["message"].strip() for problem in symbol["diagnostics"]]  # none: it is imported from there
    return symbol["name"].startswith("helix_fast.integrations.") and all(
        message.startswith(UNKNOWN_BASES) for message in found
    )


def main() -> None:
    """Print them, and fail where there are any."""
    found = incomplete()
    for symbol in found:
        for problem in symbol["diagnostics"]:
            place = Path(problem["file"]).relative_to(ROOT) if problem.get("file") else ""
            line = problem["range"]["start"]["line"] + 1 if "range" in problem else ""
            sys.stderr.write(f"{place}:{line}: {symbol['name']}: {' '.join(problem['message'].split())}\n")
    if found:
        sys.exit(f"{len(found)} symbols without a declared type")


if __name__ == "__main__":
    main()
