"""Lua in memory answers as Lua on a server: every snippet is run by both."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_fast.lua import script
from helix_fast.memory import CommandError, MemoryServer
from helix_fast.memory.lua.parser import Parser
from tests.support.replies import Ask, asks_memory, asks_server, same

# One a line, escapes as in a Python string.
SNIPPETS = (Path(__file__).parent.parent / "data" / "lua_snippets.txt").read_text().splitlines()
PATTERNS = (b"%d+", b"^%s*(.-)%s*$", b"(.)(.*)", b"[%w_]*", b".-,", b"%[(.*)%]", b"^.$")


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


@settings(max_examples=150)
@given(st.binary(max_size=12), st.sampled_from(PATTERNS))
def test_patterns_find_the_same_in_any_bytes(embedded_server: object, subject: bytes, pattern: bytes) -> None:
    ask, end = asks_server(embedded_server.url)  # type: ignore[attr-defined]
    call = ("EVAL", "return {string.match(ARGV[1], ARGV[2])}", 0, subject, pattern)
    theirs, ours = ask(*call), asks_memory(MemoryServer())(*call)
    end()
    assert theirs == ours


def test_every_script_of_ours_can_be_read() -> None:
    package = Path(str(resources.files("helix_fast")))
    files = list(package.glob("*/lua/*.lua"))
    assert len(files) > 30
    for file in files:
        Parser(script(file.parents[1].name, file.stem).body).script()


@pytest.mark.parametrize("pattern", ["%b()", "%f[%w]", "(.)%1", "[%D]"])
def test_patterns_that_are_not_offered_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(CommandError, match="not offered here"):
        MemoryServer().execute("EVAL", f"return string.match('abc', '{pattern}')", 0)


def test_scripts_are_known_by_digest_until_they_are_flushed() -> None:
    server = MemoryServer()
    digest = server.execute("SCRIPT", "LOAD", "return ARGV[1]")
    assert server.execute("EVALSHA", digest, 0, "x") == b"x"
    assert server.execute("EVALSHA", digest.upper(), 0, "x") == b"x"
    assert server.execute("SCRIPT", "EXISTS", digest, "0" * 40) == [1, 0]
    server.execute("SCRIPT", "FLUSH")
    with pytest.raises(CommandError, match=r"^NOSCRIPT"):
        server.execute("EVALSHA", digest, 0, "x")


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
