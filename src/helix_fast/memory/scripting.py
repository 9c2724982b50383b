"""EVAL and EVALSHA of a server in memory, on the Lua 5.1 that Redis embeds too: the package lupa.

``sandbox.lua`` puts around a script what Redis does. No exception crosses from Python into Lua, where a script's
``pcall`` would get a Python object to play with; and no Python object but a function that only the sandbox has.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from importlib import import_module, resources
from typing import Any, Final

import msgspec

from helix_fast.errors import InvalidArgumentError

from .keyspace import CommandError, Status

RunCommand = Callable[[Sequence[bytes]], Any]

_logger: Final = logging.getLogger("helix_fast")
_LUA: Final = ("lua51", "luajit21", "luajit20")
"""Modules of lupa that are Lua 5.1, the first one as Redis has it."""
_SPREAD: Final = 200
"""Values that cross to Lua one by one, which is faster than as a table; the C stack ends at 8000."""


def lua_module() -> Any:
    """The module of lupa that scripts run on.

    Raises:
        InvalidArgumentError: lupa is not installed.
    """
    for name in _LUA:
        try:
            return import_module(f"lupa.{name}")
        except ImportError:  # noqa: PERF203
            continue
    raise InvalidArgumentError(
        "stores in memory need the package lupa, the Lua that their scripts run on",
        hint="pip install 'helix-fast[memory]'",
    )


class Scripts:
    """The scripts that a server knows.

    Args:
        run_command: runs a command of a script; raises CommandError.
    """

    def __init__(self, run_command: RunCommand) -> None:
        self._run_command = run_command
        self._known: set[bytes] = set()
        self._compiled: dict[bytes, Any] = {}
        self._module = lua_module()
        self._lua: Any = None

    def load(self, text: bytes) -> bytes:
        """Learn a script; its digest.

        Raises:
            CommandError: the text is no Lua.
        """
        digest = _digest(text)
        if digest not in self._compiled:
            if self._lua is None:
                self._start()  # only now: a server that runs no script has no Lua either
            if text.startswith(b"#!lua"):
                text = b"--" + text
            loaded = self._load(text, b"@user_script")
            if isinstance(loaded, tuple):
                raise CommandError(f"ERR Error compiling script (new function): {loaded[1].decode(errors='replace')}")
            self._compiled[digest] = loaded
        self._known.add(digest)
        return digest

    def known(self, digest: bytes) -> bool:
        """Whether EVALSHA of it would run."""
        return digest.lower() in self._known

    def forget(self) -> None:
        """SCRIPT FLUSH."""
        self._known.clear()

    def run(self, digest: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Run a script that is known; its reply.

        Raises:
            CommandError: it is not known, failed, or returned an error.
        """
        digest = digest.lower()
        if digest not in self._known:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        script = self._compiled[digest]
        try:
            if len(keys) + len(arguments) <= _SPREAD:
                kind, *values = self._run_spread(script, len(keys), *keys, *arguments)
            else:
                table = self._lua.table_from
                kind, *values = self._run(script, table(keys), table(arguments))
        except self._module.LuaError as error:  # outside of the script's own protection: no memory is left, say
            raise CommandError(f"ERR {error} script: {digest.decode()}, on @user_script") from error
        if kind == b"failed":
            text, source, line = values
            where = b"%b:%d" % (source, line) if source else b"@user_script"
            raise CommandError((b"%b script: %b, on %b." % (text, digest, where)).decode(errors="replace"))
        if kind == b"err":
            raise CommandError(values[0].decode(errors="replace"))
        try:
            if kind == b"array":
                return [value if type(value) is bytes else self._reply(value) for value in values[1:]]
            return Status(values[0]) if kind == b"ok" else self._reply(values[0])
        except RecursionError:
            raise CommandError("ERR reached lua stack limit") from None

    def _start(self) -> None:
        self._lua = self._module.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_filter=_no_attribute,
        )  # fmt: skip
        text = (resources.files("helix_fast") / "memory" / "sandbox.lua").read_bytes()
        around = self._lua.execute(b"return function(...) " + text + b"\nend")
        functions = (self._command, _sha1hex, self._encode, self._decode)
        self._load, self._run, self._run_spread, self._null = around(*functions)

    # what the sandbox calls

    def _command(self, *words: Any) -> Any:
        try:
            reply = self._run_command([word if type(word) is bytes else _word(word) for word in words])
            if type(reply) is bytes:
                return reply
            return False if reply is None else self._value(reply)
        except CommandError as error:
            return True, b"err", str(error).encode()
        except Exception as error:
            _logger.exception("the server in memory failed")
            return True, b"err", f"ERR {error!r}".encode()

    def _value(self, reply: Any) -> Any:
        """A reply as a script sees it: nothing is false."""
        if isinstance(reply, Status):
            return True, b"ok", bytes(reply)
        if not isinstance(reply, (list, tuple)):
            return reply
        if len(reply) <= _SPREAD and all(type(each) is bytes for each in reply):
            return True, b"array", *reply
        return self._lua.table_from(_plain(reply), recursive=True)

    def _reply(self, value: Any) -> Any:
        """A script's value as a reply: a fraction is cut off, an array ends at its first nil; no metatables."""
        if isinstance(value, bytes):
            return value
        if value is True:
            return 1
        if isinstance(value, (int, float)) and value is not False:
            return int(value) if abs(value) < 2.0**63 else -(1 << 63)
        if self._module.lua_type(value) != "table":
            return None
        fields = {key: each for key, each in value.items() if type(key) is not bool}  # true would be the same as 1
        if isinstance(text := fields.get(b"err"), bytes):
            return CommandError(text.decode(errors="replace"))
        if isinstance(text := fields.get(b"ok"), bytes):
            return Status(text)
        found: list[Any] = []
        while (each := fields.get(len(found) + 1)) is not None:
            found.append(self._reply(each))
        return found

    # cjson: pairs of whether it went well, and the value or what the error says

    def _decode(self, *values: Any) -> tuple[bool, Any]:
        if len(values) != 1:
            return False, b"bad argument #1 to 'decode' (expected 1 argument)"
        text = values[0]
        if not isinstance(text, bytes):
            given = self._module.lua_type(text) or ("nil" if text is None else "number")
            return False, f"bad argument #1 to 'decode' (string expected, got {given})".encode()
        try:
            value = self._decoded(_json_value(text))
            container = isinstance(value, (list, dict))
            return True, self._lua.table_from(value, recursive=True) if container else value
        except Exception as error:  # noqa: BLE001  none may cross into Lua
            return False, f"Expected value but found invalid token: {error}".encode()

    def _decoded(self, value: Any) -> Any:
        """Every number becomes a double, an array and an object alike a table."""
        if isinstance(value, str):
            return value.encode(errors="surrogateescape")
        if value is None:
            return self._null
        if isinstance(value, list):
            return [self._decoded(each) for each in value]
        if isinstance(value, dict):
            return {key.encode(errors="surrogateescape"): self._decoded(each) for key, each in value.items()}
        return value if isinstance(value, bool) else float(value)

    def _encode(self, *values: Any) -> tuple[bool, bytes]:
        if len(values) != 1:
            return False, b"bad argument #1 to 'encode' (expected 1 argument)"
        out: list[bytes] = []
        try:
            self._encoded(values[0], out)
        except _UnserialisableError as error:
            return False, f"Cannot serialise {error}".encode()
        except RecursionError:
            return False, b"Cannot serialise, excessive nesting"
        except Exception as error:  # noqa: BLE001  none may cross into Lua
            return False, f"Cannot serialise: {error}".encode()
        return True, b"".join(out)

    def _encoded(self, value: Any, out: list[bytes]) -> None:
        if isinstance(value, bytes):
            out.append(_quoted(value))
        elif value is None:
            out.append(b"null")
        elif isinstance(value, bool):
            out.append(b"true" if value else b"false")
        elif isinstance(value, (int, float)):
            if not abs(value) < float("inf"):
                raise _UnserialisableError("number: must not be NaN or Inf")
            out.append(b"%.14g" % value)
        elif (kind := self._module.lua_type(value)) == "userdata":
            out.append(b"null")  # there is no other than cjson.null
        elif kind != "table":
            raise _UnserialisableError(f"{kind}: type not supported")
        else:
            self._encode_table(value, out)

    def _encode_table(self, table: Any, out: list[bytes]) -> None:
        """An array where all keys are positive integers, and there are any. Metatables are ignored, as by cjson."""
        items = list(table.items())
        if items and all(type(key) is int and key >= 1 for key, _value in items):
            size = max(key for key, _value in items)
            if size > _SPARSE_SAFE and size > len(items) * _SPARSE_RATIO:
                raise _UnserialisableError("table: excessively sparse array")
            values = dict(items)
            for number in range(1, size + 1):
                out.append(b"," if number > 1 else b"[")
                self._encoded(values.get(number), out)
            out.append(b"]")
            return
        out.append(b"{")
        for number, (key, value) in enumerate(items):
            if isinstance(key, bool) or not isinstance(key, (bytes, int, float)):
                raise _UnserialisableError("table: table key must be a number or string")
            name = key if isinstance(key, bytes) else b"%.14g" % key
            out += (b"," if number else b"", _quoted(name), b":")
            self._encoded(value, out)
        out.append(b"}")


_SPARSE_RATIO: Final = 2
_SPARSE_SAFE: Final = 10
_SPECIAL: Final = re.compile(rb"[\x00-\x1f\"\\/\x7f]")
_SHORT: Final = {
    b'"': b'\\"', b"\\": b"\\\\", b"/": b"\\/",
    b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\f": b"\\f", b"\r": b"\\r",
}  # fmt: skip


def _json_value(text: bytes) -> Any:
    """The value of a JSON text whose strings may hold any bytes, as they may for cjson."""
    try:
        return msgspec.json.decode(text)
    except UnicodeDecodeError:
        return json.loads(text.decode(errors="surrogateescape"))


class _UnserialisableError(Exception):
    """A value that is no JSON."""


def _no_attribute(_object: object, _name: object, _setting: bool) -> object:
    """Should a Python object get into a script after all, it leads nowhere."""
    raise AttributeError("a script has no Python")


def _quoted(text: bytes) -> bytes:
    return b'"' + _SPECIAL.sub(lambda match: _SHORT.get(match[0]) or b"\\u%04x" % match[0][0], text) + b'"'


def _digest(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


_sha1hex = _digest


def _plain(reply: Any) -> Any:
    """A nested reply as what makes tables of it."""
    if isinstance(reply, (list, tuple)):
        return [_plain(each) for each in reply]
    if isinstance(reply, Status):
        return {b"ok": bytes(reply)}
    return False if reply is None else reply


def _word(word: Any) -> bytes:
    """An argument of a command that is no string."""
    if isinstance(word, bool) or not isinstance(word, (int, float)):
        raise CommandError("ERR Command arguments must be strings or integers")
    return b"%d" % word if isinstance(word, int) else repr(word).replace("e-0", "e-").encode()
