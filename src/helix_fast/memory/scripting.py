"""EVAL and EVALSHA: how a script reaches the commands of a server in memory, and what its values are to them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

from .keyspace import CommandError, Status
from .lua.expressions import Environment
from .lua.library import standard_names
from .lua.program import load
from .lua.syntax import ScriptSyntaxError
from .lua.values import Function, LuaError, Table, Value, to_text

RunCommand = Callable[[Sequence[bytes]], Any]


class Scripts:
    """The scripts that a server knows. ``run_command`` runs one of their commands."""

    def __init__(self, run_command: RunCommand) -> None:
        self._run_command = run_command
        self._known: dict[bytes, Function] = {}
        names = standard_names()
        names[b"redis"] = Table(
            fields={
                b"call": self._call,
                b"pcall": self._pcall,
                b"sha1hex": lambda text, *_more: (_digest(to_text(text) or b""),),
                b"error_reply": lambda text: (Table(fields={b"err": text}),),
                b"status_reply": lambda text: (Table(fields={b"ok": text}),),
                b"log": lambda *_words: (),
                b"LOG_DEBUG": 0.0, b"LOG_VERBOSE": 1.0, b"LOG_NOTICE": 2.0, b"LOG_WARNING": 3.0,
            }
        )  # fmt: skip
        self._names = names
        self._environment = Environment(names, names[b"string"])

    def load(self, text: bytes) -> bytes:
        """Learn a script; its digest."""
        digest = _digest(text)
        if digest not in self._known:
            try:
                self._known[digest] = load(text, self._environment)
            except ScriptSyntaxError as error:
                raise CommandError(f"ERR Error compiling script (new function): {error}") from error
        return digest

    def known(self, digest: bytes) -> bool:
        """Whether EVALSHA of it would run."""
        return digest.lower() in self._known

    def forget(self) -> None:
        """SCRIPT FLUSH."""
        self._known.clear()

    def run(self, digest: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Run a script that is known; its reply."""
        function = self._known.get(digest.lower())
        if function is None:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        self._names[b"KEYS"] = Table(keys)
        self._names[b"ARGV"] = Table(arguments)
        try:
            returned = function()
        except LuaError as error:
            message = error.value.get(b"err") if type(error.value) is Table else error.value
            text = (to_text(message) or b"script failed").decode(errors="replace")
            code = text if text.split(" ", 1)[0].isupper() else f"ERR {text}"
            raise CommandError(f"{code} script: {digest.decode()}, on @user_script") from error
        except (TypeError, RecursionError) as error:  # a function of ours called with too few arguments, or for ever
            raise CommandError(f"ERR {error} script: {digest.decode()}, on @user_script") from error
        return reply_of(returned[0] if returned else None)

    def _call(self, *words: Value) -> Sequence[Value]:
        found = self._pcall(*words)
        if type(found[0]) is Table and b"err" in found[0].fields:
            raise LuaError(found[0])
        return found

    def _pcall(self, *words: Value) -> Sequence[Value]:
        try:
            return (value_of(self._run_command([word if type(word) is bytes else _argument(word) for word in words])),)
        except CommandError as error:
            return (Table(fields={b"err": str(error).encode()}),)


def _digest(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _argument(word: Value) -> bytes:
    if type(word) is bytes:
        return word
    if type(word) is float:
        return b"%d" % int(word) if word.is_integer() and abs(word) < 1e17 else b"%.17g" % word
    raise CommandError("ERR Lua redis lib command arguments must be strings or integers")


def value_of(reply: Any) -> Value:
    """A reply as a script sees it: nothing is false, a number a double."""
    if type(reply) is bytes:
        return reply
    if reply is None:
        return False
    if isinstance(reply, Status):
        return Table(fields={b"ok": bytes(reply)})
    if isinstance(reply, int):
        return float(reply)
    if isinstance(reply, (list, tuple)):
        return Table(value_of(each) for each in reply)
    return reply


def reply_of(value: Value) -> Any:
    """A script's value as a reply: a fraction is cut off, an array ends at its first nil."""
    if type(value) is float:
        return int(value) if math.isfinite(value) else -(1 << 63)
    if value is True:
        return 1
    if type(value) is bytes:
        return value
    if type(value) is not Table:
        return None
    if b"err" in value.fields:
        raise CommandError((to_text(value.fields[b"err"]) or b"").decode(errors="replace"))
    if b"ok" in value.fields:
        return Status(to_text(value.fields[b"ok"]) or b"")
    found: list[Any] = []
    for each in value.array:
        if each is None:
            break
        found.append(reply_of(each))
    return found
