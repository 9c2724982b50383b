"""Commands in memory answer as on a server: the same commands go to both, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.embedded import EmbeddedServer
from helix_fast.memory import CommandError, MemoryServer
from tests.support.replies import Ask, asks_memory, asks_server, same

# One command a line; a new server, empty, begins at each heading.
SCRIPTS = {
    title: lines.splitlines()
    for title, _, lines in (
        part.strip().partition("\n")
        for part in (Path(__file__).parent.parent / "data" / "commands.txt").read_text().split("# ")[1:]
    )
}


@pytest.fixture
def server(server_url: str) -> Iterator[Ask]:
    ask, end = asks_server(server_url)
    yield ask
    end()


@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_answer_as_on_a_server(server: Ask, name: str) -> None:
    memory = asks_memory(MemoryServer())
    for line in SCRIPTS[name]:
        words = line.split()
        theirs, ours = server(*words), memory(*words)
        if words[0] == "SMEMBERS":
            theirs = sorted(theirs)
        assert same(theirs, ours), f"{line}: the server says {theirs!r}, memory {ours!r}"


KEYS = st.sampled_from(["a", "b"])
WORDS = st.sampled_from(["x", "y", "1", "-2", "10", ""])
NUMBERS = st.integers(-3, 4).map(str)
READS = ("GET", "TYPE", "LLEN", "HGETALL", "SCARD", "XLEN", "ZCARD", "TTL", "PERSIST", "DEL")
WITH_WORD = ("SET", "APPEND", "RPUSH", "LPUSH", "SADD", "SREM", "HGET", "HDEL", "ZREM")
WITH_RANGE = (
    "LRANGE",
    "LTRIM",
    "ZRANGE",
    "ZREVRANGE",
    "ZREMRANGEBYRANK",
    "ZRANGEBYSCORE",
    "ZCOUNT",
    "ZREMRANGEBYSCORE",
)
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(READS), KEYS),
    st.tuples(st.sampled_from(WITH_WORD), KEYS, WORDS),
    st.tuples(st.sampled_from(["INCRBY", "LINDEX", "EXPIRE"]), KEYS, NUMBERS),
    st.tuples(st.sampled_from(WITH_RANGE), KEYS, NUMBERS, NUMBERS),
    st.tuples(st.sampled_from(["ZADD", "ZINCRBY", "LREM"]), KEYS, NUMBERS, WORDS),
    st.tuples(st.sampled_from(["HSET", "HSETNX", "RPUSH"]), KEYS, WORDS, WORDS),
    st.tuples(st.just("HINCRBY"), KEYS, WORDS, NUMBERS),
    st.tuples(st.just("COPY"), KEYS, KEYS, st.just("REPLACE")),
    st.tuples(st.just("XADD"), KEYS, st.integers(1, 9).map(lambda n: f"{n // 3}-{n}"), WORDS, WORDS),
    st.tuples(st.just("XTRIM"), KEYS, st.just("MINID"), st.integers(0, 4).map(str)),
    st.tuples(st.sampled_from(["XRANGE", "XREVRANGE"]), KEYS, NUMBERS, NUMBERS, st.just("COUNT"), NUMBERS),
)


@given(st.lists(COMMANDS, min_size=1, max_size=40))
def test_any_history_of_commands_answers_as_on_a_server(
    embedded_server: EmbeddedServer, history: list[tuple[str, ...]]
) -> None:
    server, end = asks_server(embedded_server.url)
    memory = asks_memory(MemoryServer())
    try:
        server("FLUSHALL")
        for words in history:
            theirs, ours = server(*words), memory(*words)
            assert same(theirs, ours), f"{words}: the server says {theirs!r}, memory {ours!r}"
    finally:
        end()


def test_a_command_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(CommandError, match=r"unknown command 'GEOADD'"):
        MemoryServer().execute("GEOADD", "k", 1, 2, "m")
