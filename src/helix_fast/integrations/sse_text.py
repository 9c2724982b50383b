"""Text of server-sent events, as producers of other libraries write it, back into the data of its events."""

from __future__ import annotations


def frames(text: str) -> tuple[list[str], str]:
    """The data of each complete event, and the rest of the text, which a later piece completes."""
    *complete, rest = text.replace("\r\n", "\n").split("\n\n")
    found = []
    for event in complete:
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if lines:
            found.append("\n".join(lines))
    return found, rest
