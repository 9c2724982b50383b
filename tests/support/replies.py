"""What a server answers, byte for byte, so that two servers can be compared."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis

from helix_fast.memory import CommandError, MemoryServer

Ask = Callable[..., Any]


def asks_server(url: str) -> tuple[Ask, Callable[[], None]]:
    """A function that gives a real server's reply to a command, and one that ends that."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        link = socket.socket(socket.AF_UNIX)
        link.connect(parts.path)
    else:
        link = socket.create_connection((parts.hostname, parts.port or 6379))
    link.settimeout(30)
    reader = hiredis.Reader(notEnoughData=Ellipsis)

    def ask(*words: Any) -> Any:
        link.sendall(hiredis.pack_command(words))
        while (reply := reader.gets()) is Ellipsis:
            reader.feed(link.recv(1 << 16))
        return plain(reply)

    return ask, link.close


def asks_memory(server: MemoryServer) -> Ask:
    """A function that gives the reply of a server in memory."""

    def ask(*words: Any) -> Any:
        try:
            return plain(server.execute(*words))
        except CommandError as error:
            return plain(error)

    return ask


def plain(reply: Any) -> Any:
    """A reply as a client sees it: a status is text like any other, an error a pair."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    if isinstance(reply, Exception):
        return ("error", str(reply))
    return bytes(reply) if isinstance(reply, bytes) else reply


def same(theirs: Any, ours: Any) -> bool:
    """Whether two replies are the same; of errors, that they are errors of the same code."""
    if isinstance(theirs, tuple) and isinstance(ours, tuple):
        return code_of(theirs) == code_of(ours)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(same, theirs, ours))
    return bool(theirs == ours)


def code_of(error: tuple[str, str]) -> str:
    """The code of an error reply."""
    return error[1].split(" ", 1)[0]
