"""The journal of one program: a line a record, on disk before the program goes on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """Appends records; every incarnation of a program goes on in the file of the one before it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, *, sync: bool = True, **fields: Any) -> None:
        """Append a record. Without ``sync`` it survives the program, but not the machine."""
        record = {"what": what, "at": time.monotonic(), **fields}
        # One write: a program that is killed leaves whole lines.
        os.write(self._file, json.dumps(record, separators=(",", ":")).encode() + b"\n")
        if sync:
            os.fdatasync(self._file)


def records(path: Path) -> list[Record]:
    """All records of a journal, oldest first; the file need not exist yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
