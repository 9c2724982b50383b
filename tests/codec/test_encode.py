"""Chunks as JSON, and batches of them."""

from __future__ import annotations

import random
import sys
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, U64_MAX, compared, numbers, on_each_twin, outcome, texts, u64s

MIB = 1024 * 1024
agent_types = st.one_of(st.none(), texts)


def by_msgspec(delta: str, timestamp: int, agent_id: str = "agent-1", agent_type: str | None = None) -> bytes:
    fields: dict[str, object] = {"type": "text_delta", "delta": delta, "agentId": agent_id}
    if agent_type is not None:
        fields["agentType"] = agent_type
    return msgspec.json.encode({**fields, "timestamp": timestamp})


@on_each_twin
@given(delta=texts, agent_id=texts, agent_type=agent_types, timestamp=u64s)
def test_text_delta_is_byte_for_byte_msgspecs(codec, delta, agent_id, agent_type, timestamp) -> None:
    chunk = codec.ChunkEncoder(agent_id, agent_type).encode_text(delta, timestamp)
    assert type(chunk) is bytes
    assert chunk == by_msgspec(delta, timestamp, agent_id, agent_type)
    decoded = msgspec.json.decode(chunk)
    assert (decoded["delta"], decoded["timestamp"], decoded.get("agentType")) == (delta, timestamp, agent_type)
    assert b"\n" not in chunk


@on_each_twin
@pytest.mark.parametrize("before", range(34))
def test_every_byte_is_escaped_right_at_every_offset_of_a_block(codec, before) -> None:
    encoder = codec.ChunkEncoder("agent-1")
    for point in [*range(0x120), 0x7FF, 0x800, 0x2028, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF]:
        delta = "a" * before + chr(point) + "b" * (33 - before)
        assert encoder.encode_text(delta, 1) == by_msgspec(delta, 1)


@on_each_twin
@pytest.mark.parametrize("length", [*range(70), 4096, 16_383, 16_384, 16_385])
def test_text_full_of_escapes_is_right_at_every_length(codec, length) -> None:
    encoder, batch = codec.ChunkEncoder("agent-1"), codec.BatchBuilder()
    chooser = random.Random(length)
    for letters in ('a"\\\n', 'abcdefgh"', "a\x01", '"', "\0"):
        delta = "".join(chooser.choices(letters, k=length))
        expected = by_msgspec(delta, 5)
        assert encoder.encode_text(delta, 5) == expected
        assert batch.add_text(encoder, delta, 5) == len(expected)
        assert batch.take() == expected


@on_each_twin
def test_every_number_of_digits_of_a_timestamp(codec) -> None:
    encoder = codec.ChunkEncoder("agent-1")
    for power in range(20):
        for timestamp in (10**power - 1, 10**power, 10**power + 1, U64_MAX - power):
            assert encoder.encode_text("", timestamp) == by_msgspec("", timestamp)


@on_each_twin
@pytest.mark.parametrize("unit", ["x", "\x01", '"é€😀a\nplain text, then one \\ '])
def test_one_mebibyte_of_text_survives(codec, unit) -> None:
    delta = unit * (MIB // (len(msgspec.json.encode(unit)) - 2))
    expected = by_msgspec(delta, 5)
    encoder, batch = codec.ChunkEncoder("agent-1"), codec.BatchBuilder()
    assert encoder.encode_text(delta, 5) == expected
    assert batch.add_text(encoder, "small", 4) == batch.size
    assert batch.add_text(encoder, delta, 5) == batch.size
    assert batch.take() == by_msgspec("small", 4) + b"\n" + expected


@on_each_twin
def test_bodies_of_all_lengths_are_no_longer_touched_once_they_are_taken(codec) -> None:
    batch = codec.BatchBuilder()
    taken = []
    for length in [5, 16_383, 16_384, 16_385, 70_000, 70_000, 3, 200_000, 40_000, 1, 300_000, 1]:
        chunks = [b"%d" % (number % 10) * (length // 4) for number in range(4)] if length >= 4 else [b"x" * length]
        for chunk in chunks:
            batch.add(chunk)
        assert batch.size == sum(map(len, chunks)) + len(chunks) - 1
        taken.append((batch.take(), b"\n".join(chunks)))
        assert (batch.size, batch.count) == (0, 0)
    for body, expected in taken:
        assert (body, len(body), hash(body)) == (expected, len(expected), hash(expected))
    assert batch.take() == b""


@on_each_twin
@pytest.mark.parametrize("surrogate", [chr(0xD800), chr(0xDFFF), f"text {chr(0xDC80)} text"])
def test_lone_surrogates_are_refused_and_change_nothing(codec, surrogate) -> None:
    batch, encoder = codec.BatchBuilder(), codec.ChunkEncoder("agent-1")
    batch.add(b"{}")
    with pytest.raises(UnicodeEncodeError) as caught:
        encoder.encode_text(surrogate, 1)
    assert caught.value.object == surrogate
    for call in (
        lambda: batch.add_text(encoder, surrogate, 1),
        lambda: codec.ChunkEncoder(surrogate),
        lambda: codec.ChunkEncoder("a", surrogate),
    ):
        with pytest.raises(UnicodeEncodeError):
            call()
    assert (batch.count, batch.size, batch.take()) == (1, 2, b"{}")


class Shout(str):
    __slots__ = ()


@on_each_twin
def test_text_of_a_str_subclass_is_its_text(codec) -> None:
    assert codec.ChunkEncoder(Shout("a")).encode_text(Shout('h"é'), 1) == by_msgspec('h"é', 1, "a")


@on_each_twin
@pytest.mark.parametrize("delta", [b"bytes", None, 1, ["x"]])
def test_delta_of_another_type_is_a_type_error(codec, delta) -> None:
    batch, encoder = codec.BatchBuilder(), codec.ChunkEncoder("agent-1")
    with pytest.raises(TypeError, match="delta must be str"):
        encoder.encode_text(delta, 1)
    with pytest.raises(TypeError, match="delta must be str"):
        batch.add_text(encoder, delta, 1)
    assert batch.count == batch.size == 0


@compared
@given(delta=st.one_of(texts, st.text(st.characters()), st.none()), timestamp=numbers)
def test_twins_refuse_the_same_chunks_in_the_same_words(delta, timestamp) -> None:
    answers = []
    for twin in TWINS:
        batch, encoder = twin.BatchBuilder(), twin.ChunkEncoder("a")
        answers.append(
            (
                outcome(encoder.encode_text, delta, timestamp),
                outcome(batch.add_text, encoder, delta, timestamp),
                batch.take(),
            )
        )
    assert answers[0] == answers[1]


@compared
@given(
    agent_id=st.one_of(texts, st.text(st.characters()), st.none(), st.binary()),
    agent_type=st.one_of(agent_types, st.integers()),
)
def test_twins_refuse_the_same_agents(agent_id, agent_type) -> None:
    answers = [outcome(lambda twin=twin: twin.ChunkEncoder(agent_id, agent_type).encode_text("", 0)) for twin in TWINS]
    assert answers[0] == answers[1]


additions = st.one_of(
    st.tuples(st.just("text"), texts, u64s),
    st.tuples(st.just("chunk"), st.binary(max_size=40)),
    st.tuples(st.just("take")),
)


@on_each_twin
@given(steps=st.lists(additions, max_size=40))
def test_batch_is_its_chunks_joined_by_newlines(codec, steps) -> None:
    batch, encoder = codec.BatchBuilder(), codec.ChunkEncoder("agent-1", "writer")
    model: list[bytes] = []
    for step in steps:
        if step[0] == "text":
            model.append(encoder.encode_text(step[1], step[2]))
            assert batch.add_text(encoder, step[1], step[2]) == len(b"\n".join(model))
        elif step[0] == "chunk" and step[1] and b"\n" not in step[1]:
            model.append(step[1])
            assert batch.add(step[1]) == len(b"\n".join(model))
        elif step[0] == "chunk":
            with pytest.raises(ValueError):
                batch.add(step[1])
        else:
            assert batch.take() == b"\n".join(model)
            model.clear()
        assert (batch.count, batch.size) == (len(model), len(b"\n".join(model)))
    assert batch.take() == b"\n".join(model)


@on_each_twin
def test_batch_serves_again_after_bodies_of_any_size(codec) -> None:
    batch = codec.BatchBuilder()
    for size in (1, 1023, 1024, 1025, 70_000, 262_144, 262_145, 3 * MIB, 1, 5000):
        chunk = b"x" * size
        for _ in range(3):
            batch.add(chunk)
        assert batch.take() == b"\n".join([chunk] * 3)
        assert batch.take() == b""


@on_each_twin
@pytest.mark.parametrize(
    ("chunk", "error"), [(b"", ValueError), (b"a\nb", ValueError), (b"\n", ValueError), ("{}", TypeError)]
)
def test_batch_refuses_what_would_not_be_one_line(codec, chunk, error) -> None:
    batch = codec.BatchBuilder()
    batch.add(b"[1]")
    with pytest.raises(error):
        batch.add(chunk)
    with pytest.raises(TypeError):
        batch.add(bytearray(b"{}"))
    assert (batch.count, batch.take()) == (1, b"[1]")


@on_each_twin
def test_batch_wants_an_encoder_of_its_own_codec(codec) -> None:
    for stranger in (None, object(), "encoder"):
        with pytest.raises(TypeError):
            codec.BatchBuilder().add_text(stranger, "x", 1)


@on_each_twin
def test_threads_that_share_a_batch_against_the_rules_lose_no_memory(codec) -> None:
    batch, encoder = codec.BatchBuilder(), codec.ChunkEncoder("a")
    bodies: list[bytes] = []
    start = threading.Barrier(4)

    def add() -> None:
        start.wait()
        for number in range(3000):
            batch.add_text(encoder, "delta €" * (number % 7), number)

    def take() -> None:
        start.wait()
        bodies.extend(batch.take() for _ in range(1500))

    threads = [threading.Thread(target=work) for work in (add, add, take, take)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    bodies.append(batch.take())
    if codec.__name__.endswith(
        "_codec"
    ):  # the Python twin may lose a chunk in such a race; the compiled one has a lock
        lines = b"\n".join(body for body in bodies if body).split(b"\n")
        assert len(lines) == 6000
        assert all(msgspec.json.decode(line)["agentId"] == "a" for line in lines)
