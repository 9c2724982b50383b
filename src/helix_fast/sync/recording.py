"""The ``with`` block around a recorder of usage."""

from __future__ import annotations

from typing import TypeVar

from helix_fast.usage import recorder as _recorder

from .base import Blocking
from .loop import run

SelfRecording = TypeVar("SelfRecording", bound="Recording")


class Recording(Blocking[_recorder.UsageRecorder]):
    """As a context manager it closes when left."""

    def __enter__(self: SelfRecording) -> SelfRecording:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        run(self._async.__aexit__(kind, *exc_info))
