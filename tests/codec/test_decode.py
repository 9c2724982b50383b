"""Stored bytes to objects: text lines to structs, chunks to numbered tuples, pages to bodies."""

from __future__ import annotations

import gc
import itertools
import random
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.errors import MalformedChunkError
from helix_fast.streams.chunks import LineDecoder, TextDeltaChunk, ToolStartChunk, decode_chunk, encode_chunk
from tests.codec.twins import U64_MAX, assert_same, compared, on_each_twin, texts

agents = st.one_of(texts, st.sampled_from(["", "a", 'b","timestamp":1', "\U0001f600"]))
stamps = st.one_of(st.integers(0, 10**16 - 1), st.integers(0, 20))


@on_each_twin
@given(agent=agents, kind=st.none() | agents, pieces=st.lists(st.tuples(texts, stamps), min_size=1, max_size=20))
def test_lines_that_an_encoder_wrote_come_back_as_msgspec_reads_them(codec, agent, kind, pieces) -> None:
    encoder = codec.ChunkEncoder(agent, kind)
    lines = [encoder.encode_text(text, stamp) for text, stamp in pieces]
    first, found, others = codec.decode_texts(encoder, b"\n".join(lines), len(lines), 0, TextDeltaChunk)
    assert first == 1
    assert others == sum(b"\\u" in line.partition(b'","agentId"')[0] for line in lines)  # these are left to others
    for line, chunk in zip(lines, found, strict=True):
        if chunk is not None:
            assert chunk == decode_chunk(line)
            assert msgspec.json.encode(chunk) == msgspec.json.encode(decode_chunk(line))


@on_each_twin
@pytest.mark.parametrize("length", [*range(70), 2045, 2046, 2047, 2048, 4096, 4097])
def test_text_full_of_escapes_comes_back_at_every_length(codec, length) -> None:
    encoder = codec.ChunkEncoder("a")
    chooser = random.Random(length)
    kinds = ('a"\\', 'abcdefgh"', '"', "\\", "é\n", "€😀\\")
    deltas = ["".join(chooser.choices(letters, k=length)) for letters in kinds]
    body = b"\n".join(encoder.encode_text(delta, 1) for delta in deltas)
    _first, found, others = codec.decode_texts(encoder, body, len(deltas), 0, TextDeltaChunk)
    assert ([chunk.delta for chunk in found], others) == (deltas, 0)


@compared
@pytest.mark.parametrize("text", ['a"\\\n' * 20, "plain text, then one \\ " * 5, "x" * 100])
def test_both_codecs_read_every_beginning_of_a_line_alike(text) -> None:
    from helix_fast import _codec
    from helix_fast.codec import plain

    line = _codec.ChunkEncoder("a").encode_text(text, 1)
    for end in range(len(line) + 1):
        answers = [one.decode_texts(one.ChunkEncoder("a"), line[:end], 1, 0, dict) for one in (plain, _codec)]
        assert answers[0] == answers[1]


@on_each_twin
@pytest.mark.parametrize("size", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_every_mixture_of_telling_bytes_is_read_as_python_does(codec, size) -> None:
    telling = b"\x41\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xf8\xff"
    encoder = codec.ChunkEncoder("a")
    head, tail = encoder.encode_text("|", 1).split(b"|")
    pieces = [bytes(piece) for piece in itertools.product(telling, repeat=size)]
    body = b"\n".join(head + piece + tail for piece in pieces)
    found = codec.decode_texts(encoder, body, len(pieces), 0, dict)[1]
    for piece, chunk in zip(pieces, found, strict=True):
        assert (None if chunk is None else chunk["delta"]) == decoded_or_none(piece)


def decoded_or_none(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


@on_each_twin
def test_lines_before_a_sequence_are_not_decoded(codec) -> None:
    encoder = codec.ChunkEncoder("a")
    body = b"\n".join(encoder.encode_text(text, 1) for text in "abcd")
    first, found, others = codec.decode_texts(encoder, body, 10, 8, TextDeltaChunk)
    assert (first, [chunk.delta for chunk in found], others) == (9, ["c", "d"], 0)
    assert codec.decode_texts(encoder, body, 10, 10, TextDeltaChunk) == (11, [], 0)


@on_each_twin
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"type":"text_delta","delta":"',
        b'{"type":"text_delta","delta":"x',
        b'{"type":"text_delta","delta":"x\\',
        b'{"type":"text_delta","delta":"x\\x","agentId":"a","timestamp":1}',
        b'{"type":"text_delta","delta":"\\u0041","agentId":"a","timestamp":1}',
        b'{"type":"text_delta","delta":"x","agentId":"b","timestamp":1}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":01}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":-1}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":1.0}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":10000000000000000}',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":1',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":1} ',
        b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":1,"step":1}',
        b'{"type":"text_delta","delta":"\xff","agentId":"a","timestamp":1}',
        b'{"type":"text_delta","delta":"\xed\xa0\x80","agentId":"a","timestamp":1}',
        b'{"type":"text_delta", "delta":"x","agentId":"a","timestamp":1}',
    ],
)
def test_what_an_encoder_did_not_write_is_left_to_others(codec, line) -> None:
    encoder = codec.ChunkEncoder("a")
    good = encoder.encode_text("x", 1)
    first, found, others = codec.decode_texts(encoder, b"\n".join([good, line, good]), 3, 0, dict)
    known = {"delta": "x", "agent_id": "a", "timestamp": 1}
    assert (first, found, others) == (1, [known, None, known], 1)


@compared
@given(agent=agents, pieces=st.lists(texts, min_size=1, max_size=4), at=st.integers(0, 400), byte=st.integers(0, 255))
def test_both_codecs_read_damaged_lines_alike(agent, pieces, at, byte) -> None:
    from helix_fast import _codec
    from helix_fast.codec import plain

    answers = []
    for codec in (plain, _codec):
        encoder = codec.ChunkEncoder(agent)
        body = bytearray(b"\n".join(encoder.encode_text(text, 12345) for text in pieces))
        body[at % len(body)] = byte
        answers.append(codec.decode_texts(encoder, bytes(body), 1000, 0, dict))
    assert answers[0] == answers[1]


class Place(NamedTuple):
    chunk: Any
    sequence: int
    epoch: str
    term: str


@on_each_twin
def test_chunks_are_numbered_from_the_first(codec) -> None:
    found = codec.number_chunks(Place, ["a", None, [1]], 7, "e", "1a")
    assert found == [("a", 7, "e", "1a"), (None, 8, "e", "1a"), ([1], 9, "e", "1a")]
    assert all(type(place) is Place for place in found)
    assert hash(found[0]) == hash(("a", 7, "e", "1a"))  # Python 3.14 keeps it in the tuple, where 0 is no "not yet"
    assert [gc.is_tracked(found[2])] == [True]  # a list may lead back to it
    assert codec.number_chunks(Place, [], U64_MAX, "e", "1a") == []
    with pytest.raises(OverflowError):
        codec.number_chunks(Place, ["a"], U64_MAX, "e", "1a")


@on_each_twin
def test_a_tuple_with_attributes_of_its_own_is_refused(codec) -> None:
    class Loose(tuple):  # noqa: SLOT001
        pass

    for make in (Loose, list, None, Place("a", 1, "e", "1a")):
        with pytest.raises(TypeError):
            codec.number_chunks(make, ["a"], 1, "e", "1a")


@on_each_twin
def test_last_item_of_a_tuple_is_passed_over(codec) -> None:
    class Short(Place):
        __iter__ = codec.iterate_but_last

        def __len__(self) -> int:
            return 1

    assert list(codec.iterate_but_last(Short("a", 1, "e", "1a"))) == ["a", 1, "e"]
    assert [*Short("a", 1, "e", "1a")] == ["a", 1, "e"]
    assert (list(codec.iterate_but_last(())), list(codec.iterate_but_last((1,)))) == ([], [])
    for value in ([1, 2], None):
        with pytest.raises(TypeError):
            codec.iterate_but_last(value)


def entry(last: int, *lines: bytes, **other: bytes) -> list[Any]:
    fields = [b"chunk", b"\n".join(lines), b"sequence", b"%d" % last, b"writer", b"abcd0001"]
    return [b"1-1", fields + [other[name] for name in other]]


@on_each_twin
@given(sizes=st.lists(st.integers(1, 4), max_size=10), before=st.integers(0, 5), stop=st.integers(0, 10))
def test_entries_are_taken_as_far_as_they_follow_one_another(codec, sizes, before, stop) -> None:
    page, last, lines = [], before, []
    for number, size in enumerate(sizes):
        fresh = [b"%d" % (last + n) for n in range(1, size + 1)]
        last += size
        page.append(entry(last + 1, *fresh) if number == stop else entry(last, *fresh))  # a hole before that one
        if number < stop:
            lines += fresh
    taken, top, body = codec.merge_entries(page, before)
    assert (taken, top) == (min(stop, len(sizes)), before + len(lines))
    assert body == b"\n".join(lines)


@compared
@pytest.mark.parametrize(
    "other",
    [
        entry(3, b"c", more=b"field"),
        entry(2, b"b"),
        entry(3, b""),
        entry(4, b"c"),
        [b"1-1", [b"event", b"open", b"sequence", b"3", b"writer", b"x"]],
        [b"1-1", [b"chunk", b"c", b"sequence", b"03", b"writer", b"x"]],
        [b"1-1", [b"chunk", b"c", b"sequence", b"00000000000000003", b"writer", b"x"]],
        [b"1-1", [b"chunk", b"c", b"sequence", b"", b"writer", b"x"]],
        [b"1-1", [b"chunk", None, b"sequence", b"3", b"writer", b"x"]],
        [b"1-1", None],
        None,
    ],
)
def test_an_entry_of_another_kind_ends_the_page(other) -> None:
    page = [entry(1, b"a"), entry(2, b"b"), other, entry(4, b"d")]
    assert assert_same("merge_entries", page, 0) == (2, 2, b"a\nb")


def test_a_decoder_follows_the_agents_of_a_stream() -> None:
    decoder = LineDecoder()
    chunks = [
        TextDeltaChunk(delta="one", agent_id="a", timestamp=1),
        ToolStartChunk(tool_call_id="t", tool_name="search", agent_id="a", timestamp=2),
        TextDeltaChunk(delta="two", agent_id="b", agent_type="kind", timestamp=3),
        TextDeltaChunk(delta="three", agent_id="a", timestamp=4, step=5),
    ]
    body = b"\n".join(encode_chunk(chunk) for chunk in chunks)
    for _ in range(3):
        assert decoder.decode(body, 4, 0) == (1, chunks, False)
    first, found, faulty = decoder.decode(body + b"\n[1]", 5, 1)
    assert (first, found[:3], faulty) == (2, chunks[1:], True)
    assert isinstance(found[3], MalformedChunkError)
    assert found[3].sequence == 5
