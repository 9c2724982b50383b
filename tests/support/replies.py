"""What a server answers, word for word, so that two servers can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.connection import ConnectionPool

from helix_fast.memory import CommandError, MemoryServer

Ask = Callable[..., Any]


def asks_server(url: str) -> tuple[Ask, Callable[[], None]]:
    """A function that gives a real server's reply to a command, and one that ends that."""
    pool = ConnectionPool.from_url(url, protocol=2)
    connection: Any = pool.get_connection()

    def ask(*words: Any) -> Any:
        connection.send_command(*words)
        try:
            return connection.read_response()
        except redis.exceptions.ResponseError as error:
            # redis-py takes the code of some errors away from their text and puts it into the class
            kind = type(error)
            return ("error", "ERR" if kind is redis.exceptions.ResponseError else kind.__name__, str(error))

    def end() -> None:
        connection.disconnect()
        pool.disconnect()

    return ask, end


def asks_memory(server: MemoryServer) -> Ask:
    """A function that gives the reply of a server in memory."""

    def ask(*words: Any) -> Any:
        try:
            return plain(server.execute(*words))
        except CommandError as error:
            return ("error", str(error))

    return ask


def plain(reply: Any) -> Any:
    """A reply as a client sees it: a status is text like any other."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    return bytes(reply) if isinstance(reply, bytes) else reply


def same(theirs: Any, ours: Any) -> bool:
    """Whether two replies are the same; of errors, that they are errors of the same code."""
    if isinstance(theirs, tuple) and isinstance(ours, tuple):
        return code_of(theirs) == code_of(ours)
    return bool(theirs == ours)


def code_of(error: tuple[str, ...]) -> str:
    """The code of an error reply."""
    if "NoScriptError" in error:
        return "NOSCRIPT"
    word = error[-1].split(" ", 1)[0]
    return word if word.isupper() else "ERR"
