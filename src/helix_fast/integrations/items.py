"""What producers yield: dicts, models of pydantic, and text of server-sent events, all made into dicts."""

from __future__ import annotations

from typing import Any

import msgspec

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError


class ProducerItems:
    """Reads the items of one producer. Text may be cut anywhere: an event counts when it is complete."""

    def __init__(self, *encode_arguments: Any) -> None:
        self._arguments = encode_arguments
        self._partial = ""

    def read(self, item: Any) -> list[dict[str, Any]]:
        """The chunks of an item.

        Raises:
            InvalidArgumentError: it has none with a ``type``.
        """
        if isinstance(item, (str, bytes)):
            texts, self._partial = events_of(self._partial + (item if isinstance(item, str) else item.decode()))
            found = [msgspec.json.decode(text) for text in texts if text != "[DONE]"]
        else:
            found = [self._plain(item)]
        for chunk in found:
            if not (isinstance(chunk, dict) and isinstance(chunk.get("type"), str)):
                raise InvalidArgumentError(f"{arguments.shown(chunk)} is no chunk: it has no type")
        return found

    def _plain(self, item: Any) -> Any:
        encode = getattr(item, "encode", None)
        if self._arguments and callable(encode):  # pydantic-ai's, which writes it for a version of the SDK
            return msgspec.json.decode(encode(*self._arguments))
        dump = getattr(item, "model_dump", None)
        return dump(mode="json", by_alias=True, exclude_none=True) if callable(dump) else item


def events_of(text: str) -> tuple[list[str], str]:
    """The data of each complete event of a text of server-sent events, and the rest, which a later piece completes."""
    *complete, rest = text.replace("\r\n", "\n").split("\n\n")
    found = []
    for event in complete:
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if lines:
            found.append("\n".join(lines))
    return found, rest
