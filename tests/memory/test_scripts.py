"""Scripts in memory answer as scripts on a server: every snippet is run by both, and what Redis keeps from a script."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.embedded import EmbeddedServer
from helix_fast.memory import CommandError, MemoryServer
from tests.support.replies import Ask, asks_memory, asks_server, same

# One a line, escapes as in a Python string.
SNIPPETS = (Path(__file__).parent.parent / "data" / "lua_snippets.txt").read_text().splitlines()
PATTERNS = (b"%d+", b"^%s*(.-)%s*$", b"(.)(.*)", b"[%w_]*", b".-,", b"%[(.*)%]", b"^.$", b"%b()", b"%f[%w]")


@pytest.fixture
def server(server_url: str) -> Iterator[Ask]:
    ask, end = asks_server(server_url)
    yield ask
    end()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_answers_as_on_a_server(server: Ask, snippet: str) -> None:
    text = snippet.encode().decode("unicode_escape")
    call = ("EVAL", text, 2, "k1", "k2", "7", "30")
    theirs, ours = server(*call), asks_memory(MemoryServer())(*call)
    assert same(theirs, ours), f"the server says {theirs!r}, memory {ours!r}"


# What goes in and out of a script: made-up arguments and replies, numbers most of all.

NUMBERS = st.one_of(
    st.integers(-20, 20), st.integers(-4000, 4000).map(lambda eighths: eighths / 8), st.integers(-(1 << 53), 1 << 53)
).map(str)
BYTES = st.binary(max_size=12)
VALUES = st.recursive(
    st.one_of(
        NUMBERS.map("tonumber('{}')".format),
        st.sampled_from(["true", "false", "'x'", "ARGV[1]", "#KEYS", "1e15 + 0.5"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "{" + ", ".join(items) + "}"),
        st.builds("{{ok = {}, {}}}".format, inner, inner),
    ),
    max_leaves=6,
)
PROGRAMS = st.one_of(
    VALUES.map("return {}".format),
    VALUES.map("return cjson.encode({})".format),
    VALUES.map("local v = cjson.decode(cjson.encode({{{}}})) return type(v[1]) == 'table' and #v[1] or v".format),
    NUMBERS.map("redis.call('SET', KEYS[1], tonumber('{}')) return 1".format),
    NUMBERS.map(
        "redis.call('RPUSH', KEYS[1], tonumber('{}'), ARGV[1]) return redis.call('LRANGE', KEYS[1], 0, -1)".format
    ),
    st.just("return redis.sha1hex(ARGV[1])"),
    st.just("redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('HGETALL', KEYS[1])"),
    st.just("return {redis.pcall('HGET', KEYS[1], ARGV[1]), redis.pcall('INCR', KEYS[1]), redis.pcall(ARGV[1])}"),
)


@given(PROGRAMS, BYTES, BYTES)
def test_a_made_up_script_answers_as_on_a_server(
    embedded_server: EmbeddedServer, program: str, one: bytes, two: bytes
) -> None:
    ask, end = asks_server(embedded_server.url)
    try:
        ask("FLUSHALL")
        call = ("EVAL", program, 1, "k", one, two)
        theirs, ours = ask(*call), asks_memory(MemoryServer())(*call)
    finally:
        end()
    assert same(theirs, ours), f"{program}: the server says {theirs!r}, memory {ours!r}"


@given(BYTES, st.sampled_from(PATTERNS))
def test_patterns_find_the_same_in_any_bytes(embedded_server: EmbeddedServer, subject: bytes, pattern: bytes) -> None:
    ask, end = asks_server(embedded_server.url)
    call = ("EVAL", "return {string.match(ARGV[1], ARGV[2])}", 0, subject, pattern)
    theirs, ours = ask(*call), asks_memory(MemoryServer())(*call)
    end()
    assert theirs == ours


@pytest.mark.parametrize("count", [0, 1, 150, 1_000, 20_000])
def test_any_number_of_keys_arguments_and_elements_goes_in_and_out(count: int) -> None:
    server = MemoryServer()
    keys, words = [b"k%d" % number for number in range(count)], [b"a%d" % number for number in range(count)]
    assert server.execute("EVAL", "return {#KEYS, #ARGV, KEYS[#KEYS], ARGV[#ARGV]}", count, *keys, *words)[:2] == [
        count, count,
    ]  # fmt: skip
    assert server.execute("EVAL", "return ARGV", count, *keys, *words) == words
    server.execute("DEL", "l")
    for start in range(0, count, 1000):
        server.execute("RPUSH", "l", *words[start : start + 1000])
    assert server.execute("EVAL", "return redis.call('LRANGE', 'l', 0, -1)", 0) == words


# what Redis keeps from a script


@pytest.mark.parametrize(
    "harm",
    [
        "x = 1",
        "redis = nil",
        "KEYS = nil",
        "redis.call = nil",
        "string.format = nil",
        "rawset(_G, 'x', 1)",
        "rawset(string, 'format', nil)",
        "table.insert(_G, 'x')",
        "table.insert(string, 1, 'x')",
        "setmetatable(_G, nil)",
        "setmetatable(string, {})",
        "getmetatable('').__index = nil",
        "getmetatable(_G).__newindex = nil",
        "loadstring('x = 1')()",
        "return x",
        "return os.exit()",
        "return io.open('/etc/passwd')",
        "return require('os')",
        "return python.eval('1')",
        "return debug.getinfo(1)",
        "return package.path",
        "return dofile('x')",
        "return loadstring(string.dump(function() return 1 end))()",
        "return load(function() return string.dump(function() return 1 end) end)()",
        "return cjson.null.__class__",
        "return redis.call.__self__",
        "return redis.call('EVAL', 'return 1', 0)",
        "return redis.call('SCRIPT', 'FLUSH')",
        "return redis.call('SUBSCRIBE', 'c')",
    ],
)
def test_a_script_cannot_reach_what_it_must_not_nor_change_what_others_use(server: Ask, harm: str) -> None:
    ours = MemoryServer()
    ask = asks_memory(ours)
    assert ask("EVAL", harm, 0)[0] == "error"
    assert server("EVAL", harm, 0)[0] == "error"
    check = "return {type(redis.call), string.format('%d', 5), ('x'):rep(2), #KEYS, type(rawget(_G, 'x'))}"
    assert ask("EVAL", check, 0) == [b"function", b"5", b"xx", 0, b"nil"]


@pytest.mark.parametrize(
    "call",
    [
        "cjson.encode, setmetatable({[1] = 1, [3] = 3}, {__index = function() error('x') end})",
        "cjson.encode, setmetatable({}, {__index = function() error('x') end})",
        "cjson.decode, string.rep('1', 400)",
        "cjson.decode, string.rep('[', 900) .. string.rep(']', 900)",
        "redis.call, setmetatable({}, {__tostring = function() error('x') end})",
    ],
)
def test_no_python_object_reaches_a_script_as_an_error(call: str) -> None:
    script = f"local _, value = pcall({call}) return type(value)"
    assert MemoryServer().execute("EVAL", script, 0) in {b"string", b"table"}


def test_a_reply_that_contains_itself_is_an_error_of_the_script() -> None:
    with pytest.raises(CommandError, match="stack"):
        MemoryServer().execute("EVAL", "local t = {} t[1] = t return t", 0)


def test_all_names_of_a_server_that_scripts_of_ours_may_use_are_there(server: Ask) -> None:
    names = server("EVAL", "local out = {} for name in pairs(_G) do out[#out + 1] = name end return out", 0)
    left_out = {b"bit", b"struct", b"cmsgpack", b"__redis__err__handler", b"__server__err__handler"}
    for name in set(names) - left_out:
        kind = ("EVAL", "return type(_G[ARGV[1]])", 0, name)
        assert asks_memory(MemoryServer())(*kind) == server(*kind), name


def test_an_error_names_script_and_line() -> None:
    server = MemoryServer()
    text = "local x = 1\nerror('later')"
    digest = server.execute("SCRIPT", "LOAD", text).decode()
    with pytest.raises(CommandError) as caught:
        server.execute("EVAL", text, 0)
    assert str(caught.value) == f"ERR user_script:2: later script: {digest}, on @user_script:2."


def test_a_script_inside_of_a_coroutine_runs_commands() -> None:
    script = "return coroutine.wrap(function() return redis.call('INCR', KEYS[1]) end)()"
    assert MemoryServer().execute("EVAL", script, 1, "k") == 1


def test_scripts_are_known_by_digest_until_they_are_flushed() -> None:
    server = MemoryServer()
    digest = server.execute("SCRIPT", "LOAD", "return ARGV[1]")
    assert server.execute("EVALSHA", digest, 0, "x") == b"x"
    assert server.execute("EVALSHA", digest.upper(), 0, "x") == b"x"
    assert server.execute("SCRIPT", "EXISTS", digest, "0" * 40) == [1, 0]
    server.execute("SCRIPT", "FLUSH")
    with pytest.raises(CommandError, match=r"^NOSCRIPT"):
        server.execute("EVALSHA", digest, 0, "x")
    assert server.execute("EVAL", "return ARGV[1]", 0, "x") == b"x"
    assert server.execute("EVALSHA", digest, 0, "x") == b"x"


def test_what_a_script_did_before_it_failed_stays() -> None:
    server = MemoryServer()
    with pytest.raises(CommandError, match="later"):
        server.execute("EVAL", "redis.call('SET', 'k', 'v') error('later')", 0)
    assert server.execute("GET", "k") == b"v"


def test_time_stands_still_for_keys_while_a_script_runs() -> None:
    now = [1000.0]
    server = MemoryServer(lambda: now.__setitem__(0, now[0] + 1.0) or now[0])
    script = (
        "redis.call('SET', 'k', 'v', 'PX', 10) for i = 1, 50 do redis.call('TIME') end return redis.call('EXISTS', 'k')"
    )
    assert server.execute("EVAL", script, 0) == 1
    assert server.execute("EXISTS", "k") == 0


def test_a_server_that_nobody_has_any_more_is_collected_with_its_lua() -> None:
    server = MemoryServer()
    server.execute("EVAL", "return redis.call('TIME')", 0)
    gone = weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None


# without lupa

WITHOUT = """
import sys
sys.modules['lupa'] = None
import helix_fast
from helix_fast import connect, InvalidArgumentError, NoOpLockManager
NoOpLockManager()
makers = [lambda: connect('memory://')]
makers += [getattr(helix_fast, name) for name in helix_fast.__all__ if name.startswith(('InMemory', 'MemoryServer'))]
assert len(makers) == 7, makers
for make in makers:
    try:
        make()
    except InvalidArgumentError as error:
        assert error.hint == "pip install 'helix-fast[memory]'", error.hint
    else:
        raise AssertionError(f'{make} did without')
"""


@pytest.mark.slow
def test_without_lupa_stores_in_memory_say_at_once_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
