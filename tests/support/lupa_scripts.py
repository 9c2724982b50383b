"""Scripts of a server in memory, run by the original Lua 5.1 in place of our interpreter: the oracle of its tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from lupa import lua51  # type: ignore[import-not-found,import-untyped,unused-ignore]

from helix_fast.memory import CommandError
from helix_fast.memory.keyspace import Status
from helix_fast.memory.lua import json
from helix_fast.memory.lua.values import LuaError, Table, Value

# What Redis puts around a script: the names it may use, no others, and none of its own that outlive it.
_AROUND = b"""
local run_command, sha1hex, encode, decode, null = ...
local function pcall_(...) return run_command(...) end
local function call(...)
  local reply = run_command(...)
  if type(reply) == 'table' and reply.err then error(reply) end
  return reply
end
redis = {call = call, pcall = pcall_, sha1hex = sha1hex, log = function() end,
  error_reply = function(text) return {err = text} end, status_reply = function(text) return {ok = text} end}
cjson = {null = null}
local function raising(function_)
  return function(...)
    local fine, value = function_(...)
    if not fine then error(value, 0) end
    return value
  end
end
cjson.encode, cjson.decode = raising(encode), raising(decode)
for _, name in ipairs({'io', 'os', 'package', 'require', 'module', 'dofile', 'loadfile', 'print'}) do
  _G[name] = nil
end
KEYS, ARGV = {}, {}
local strict = {}
function strict.__newindex(_, name) error('Attempt to modify a readonly table: ' .. tostring(name), 2) end
function strict.__index(_, name) error('Script attempted to access nonexistent variable ' .. tostring(name), 2) end
local pcall, loadstring, setmetatable, rawset, G = pcall, loadstring, setmetatable, rawset, _G
setmetatable(_G, strict)
return loadstring, function(script, keys, arguments)
  rawset(G, 'KEYS', keys)
  rawset(G, 'ARGV', arguments)
  return pcall(script)
end
"""


class LupaScripts:
    """What `helix_fast.memory.scripting.Scripts` offers to its server, and nothing else of it."""

    def __init__(self, run_command: Callable[[Sequence[bytes]], Any]) -> None:
        self._run_command = run_command
        self._known: dict[bytes, Any] = {}
        self._lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False)
        null = object()
        self._null = null
        around = self._lua.execute(b"return function(...) " + _AROUND + b" end")
        self._load, self._run = around(self._command, self._sha1hex, self._encode, self._decode, null)

    def load(self, text: bytes) -> bytes:
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        if digest not in self._known:
            loaded = self._load(text, b"@user_script")
            if isinstance(loaded, tuple):
                raise CommandError(f"ERR Error compiling script: {loaded[1]!r}")
            self._known[digest] = loaded
        return digest

    def known(self, digest: bytes) -> bool:
        return digest.lower() in self._known

    def run(self, digest: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        script = self._known.get(digest.lower())
        if script is None:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        returned = self._run(script, self._lua.table_from(keys), self._lua.table_from(arguments))
        fine, value = returned[:2] if isinstance(returned, tuple) else (returned, None)
        if fine:
            return self._reply(value)
        message = value[b"err"] if lua51.lua_type(value) == "table" else value
        text = (message if isinstance(message, bytes) else b"script failed").decode(errors="replace")
        raise CommandError(text if text.split(" ", 1)[0].isupper() else f"ERR {text}")

    # what scripts call

    def _command(self, *words: Any) -> Any:
        try:
            return self._value(self._run_command([_word(word) for word in words]))
        except CommandError as error:
            return self._lua.table_from({b"err": str(error).encode()})

    def _sha1hex(self, text: bytes) -> bytes:
        return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()

    def _encode(self, value: Any = None) -> tuple[bool, Any]:
        try:
            return True, json.encode(self._ours(value))
        except LuaError as error:
            return False, error.value

    def _decode(self, text: Any = None) -> tuple[bool, Any]:
        try:
            return True, self._theirs(json.decode(text))
        except LuaError as error:
            return False, error.value

    # values: Lua's, those of the server's replies, and those of our own cjson, which has no part in the comparison

    def _value(self, reply: Any) -> Any:
        if reply is None:
            return False
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        if isinstance(reply, (list, tuple)):
            return self._lua.table_from([self._value(each) for each in reply])
        return reply

    def _reply(self, value: Any) -> Any:
        if value is True:
            return 1
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(value) if abs(value) < float("inf") else -(1 << 63)
        if isinstance(value, bytes):
            return value
        if lua51.lua_type(value) != "table":
            return None
        if value[b"err"] is not None:
            raise CommandError(value[b"err"].decode(errors="replace"))
        if value[b"ok"] is not None:
            return Status(value[b"ok"])
        found: list[Any] = []
        while (each := value[len(found) + 1]) is not None:
            found.append(self._reply(each))
        return found

    def _ours(self, value: Any) -> Value:
        if value is self._null:
            return json.NULL
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if lua51.lua_type(value) != "table":
            return value
        table = Table()
        for key, each in value.items():
            table.set(self._ours(key), self._ours(each))
        return table

    def _theirs(self, value: Any) -> Any:
        if value is json.NULL:
            return self._null
        if type(value) is not Table:
            return value
        return self._lua.table_from({key: self._theirs(each) for key, each in value.items()})


def _word(word: Any) -> bytes:
    if isinstance(word, bytes):
        return word
    if isinstance(word, (int, float)) and not isinstance(word, bool):
        return b"%d" % int(word) if float(word).is_integer() and abs(word) < 1e17 else b"%.17g" % word
    raise CommandError("ERR Lua redis lib command arguments must be strings or integers")
