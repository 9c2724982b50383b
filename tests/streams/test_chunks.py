"""Chunks: every type survives the wire, with unknown types and fields, and nothing that is none gets there."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast import (
    CheckpointCreatedChunk,
    CustomChunk,
    ErrorChunk,
    MalformedChunkError,
    OutputChunk,
    RunInterruptedChunk,
    RunResumedChunk,
    StatePatchChunk,
    StreamResyncChunk,
    SubAgentEndChunk,
    SubAgentStartChunk,
    TextDeltaChunk,
    ThinkingChunk,
    ToolEndChunk,
    ToolStartChunk,
    UnknownChunk,
    codec,
)
from helix_fast.streams.chunks import KNOWN_CHUNKS, Chunk, LineDecoder, decode_chunk, decode_lines, encode_chunk

COMMON: dict[str, Any] = {"agent_id": "a", "agent_type": "k", "timestamp": 1_700_000_000_000, "step": 3}
COMMON_WIRE: dict[str, Any] = {"agentId": "a", "agentType": "k", "timestamp": 1_700_000_000_000, "step": 3}
NESTED: Any = {"a": [1, 2.5, None, True, 'é\n"\\', {}], "b": []}
EXAMPLES: list[tuple[Chunk, dict[str, Any]]] = [
    (TextDeltaChunk(delta="é\n"), {"type": "text_delta", "delta": "é\n"}),
    (ThinkingChunk(content="c", is_complete=True), {"type": "thinking", "content": "c", "isComplete": True}),
    (
        ToolStartChunk(tool_call_id="c", tool_name="n", arguments=NESTED),
        {"type": "tool_start", "toolCallId": "c", "toolName": "n", "arguments": NESTED},
    ),
    (
        ToolEndChunk(tool_call_id="c", result=NESTED, success=False, error="e"),
        {"type": "tool_end", "toolCallId": "c", "result": NESTED, "success": False, "error": "e"},
    ),
    (
        SubAgentStartChunk(sub_session_id="s", sub_agent_type="t", tool_call_id="c"),
        {"type": "subagent_start", "subSessionId": "s", "subAgentType": "t", "toolCallId": "c"},
    ),
    (
        SubAgentEndChunk(sub_session_id="s", sub_agent_type="t", tool_call_id="c", result=[], success=True, error="e"),
        {
            "type": "subagent_end", "subSessionId": "s", "subAgentType": "t", "toolCallId": "c", "result": [],
            "success": True, "error": "e",
        },
    ),
    (
        StatePatchChunk(patches=[{"op": "add", "path": "/a", "value": NESTED}]),
        {"type": "state_patch", "patches": [{"op": "add", "path": "/a", "value": NESTED}]},
    ),
    (CustomChunk(event_name="e", data=NESTED), {"type": "custom", "eventName": "e", "data": NESTED}),
    (ErrorChunk(error="e", recoverable=False), {"type": "error", "error": "e", "recoverable": False}),
    (OutputChunk(output=NESTED), {"type": "output", "output": NESTED}),
    (
        RunInterruptedChunk(reason="r", checkpoint_id="c"),
        {"type": "run_interrupted", "reason": "r", "checkpointId": "c"},
    ),
    (RunResumedChunk(checkpoint_id="c", mode="m"), {"type": "run_resumed", "checkpointId": "c", "mode": "m"}),
    (
        CheckpointCreatedChunk(checkpoint_id="c", step_count=4),
        {"type": "checkpoint_created", "checkpointId": "c", "stepCount": 4},
    ),
    (
        StreamResyncChunk(reason="r", checkpoint_id="c", from_sequence=9),
        {"type": "stream_resync", "reason": "r", "checkpointId": "c", "fromSequence": 9},
    ),
]  # fmt: skip


def test_every_known_type_has_an_example() -> None:
    assert {wire["type"] for _chunk, wire in EXAMPLES} == set(KNOWN_CHUNKS)


@pytest.mark.parametrize(("chunk", "wire"), EXAMPLES, ids=[wire["type"] for _chunk, wire in EXAMPLES])
def test_each_type_is_its_wire_form_and_back(chunk: Chunk, wire: dict[str, Any]) -> None:
    assert chunk.type == wire["type"]
    assert json.loads(encode_chunk(chunk)) == wire
    for name, value in COMMON.items():
        setattr(chunk, name, value)
    full = {**wire, **COMMON_WIRE}
    try:
        assert json.loads(encode_chunk(chunk)) == full
        assert decode_chunk(encode_chunk(chunk)) == chunk
        assert decode_chunk(encode_chunk(full)) == chunk, "a dict is the same chunk"
        more = {**full, "later": NESTED, "agent_id": "no field of ours"}
        decoded = decode_chunk(encode_chunk(more))
        assert type(decoded) is type(chunk)
        assert decoded.extra == {"later": NESTED, "agent_id": "no field of ours"}
        assert json.loads(encode_chunk(decoded)) == more, "unknown fields survive"
    finally:
        for name in COMMON:
            setattr(chunk, name, None)


@pytest.mark.parametrize(("chunk", "wire"), EXAMPLES, ids=[wire["type"] for _chunk, wire in EXAMPLES])
def test_the_writer_fills_what_a_struct_leaves_open(chunk: Chunk, wire: dict[str, Any]) -> None:
    filled = {**wire, "agentId": "w", "agentType": "t", "timestamp": 5}
    assert json.loads(encode_chunk(chunk, "w", "t", 5)) == filled
    assert (chunk.agent_id, chunk.agent_type, chunk.timestamp) == (None, None, None), "the caller's struct stays"
    assert json.loads(encode_chunk(wire, "w", "t", 5)) == wire


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


@given(OBJECTS, st.text())
def test_any_object_of_an_unknown_type_survives(fields: dict[str, Any], kind: str) -> None:
    if kind in KNOWN_CHUNKS:
        return
    data = {**fields, "type": kind}
    wire = encode_chunk(data)
    assert b"\n" not in wire
    chunk = decode_chunk(wire)
    assert isinstance(chunk, UnknownChunk)
    assert chunk.data == data
    assert chunk.type == kind
    assert encode_chunk(chunk) == wire
    assert msgspec.json.decode(wire) == data


@given(OBJECTS, st.sampled_from(EXAMPLES))
def test_any_further_field_of_a_known_type_survives(
    fields: dict[str, Any], example: tuple[Chunk, dict[str, Any]]
) -> None:
    own = set(example[0].__struct_encode_fields__)
    data = {**{name: value for name, value in fields.items() if name not in own}, **example[1]}
    chunk = decode_chunk(encode_chunk(data))
    assert isinstance(chunk, Chunk)
    assert msgspec.json.decode(encode_chunk(chunk)) == data


@given(st.lists(OBJECTS, min_size=1, max_size=8), st.integers(0, 9), st.integers(0, 1000))
def test_lines_are_the_chunks_after_a_sequence(objects: list[dict[str, Any]], behind: int, base: int) -> None:
    chunks = [{**fields, "type": "any"} for fields in objects]
    body = b"\n".join(encode_chunk(chunk) for chunk in chunks)
    last = base + len(chunks)
    after = max(0, last - behind)
    first, found, _faulty = decode_lines(body, last, after)
    kept = chunks[max(0, after - base) :]
    assert first == last - len(kept) + 1
    assert [one.data for one in found if isinstance(one, UnknownChunk)] == kept
    assert len(found) == len(kept)


class Odd:
    pass


@pytest.mark.parametrize(
    "bad",
    [
        None, 5, "x", b"{}", [], (), {}, {"type": None}, {"type": 1}, {"Type": "x"}, {"type": "x", "v": math.nan},
        {"type": "x", "v": -math.inf}, {"type": "x", "v": [[math.inf]]}, {"type": "x", 1: 2}, {"type": "x", "v": Odd()},
        {"type": "x", "v": "\ud800"}, {"type": "x", "v": b"x"}, {"type": "x", "\udfff": 1}, {"type": "\ud800"},
        {"type": "text_delta"},
        {"type": "text_delta", "delta": None}, {"type": "thinking", "content": "c", "isComplete": 1},
        {"type": "state_patch", "patches": {}}, {"type": "tool_start", "toolCallId": "c"},
        {"type": "text_delta", "delta": "x", "timestamp": 1.5}, UnknownChunk({}), UnknownChunk({"type": []}),
    ],
    ids=lambda bad: ascii(bad)[:40],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(bad: Any) -> None:
    with pytest.raises(MalformedChunkError) as caught:
        encode_chunk(bad)
    assert caught.value.sequence is None
    assert caught.value.data is bad


def test_a_chunk_nested_too_deep_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(MalformedChunkError):
        encode_chunk({"type": "x", "v": deep})
    with pytest.raises(MalformedChunkError):
        decode_chunk(b'{"type":"x","v":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 7)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_chunk_or_malformed(data: bytes) -> None:
    first, (found,), _faulty = decode_lines(data.replace(b"\n", b" ") or b" ", 7, 6)
    assert first == 7
    if isinstance(found, MalformedChunkError):
        assert (found.sequence, found.data) == (7, data.replace(b"\n", b" ") or b" ")
    else:
        assert isinstance(found.type, str)


def test_fields_of_an_unknown_chunk_are_read_by_name() -> None:
    chunk = UnknownChunk({"type": "new", "toolCallId": "c", "plain": 1, "data": 2, "snake_case": 3})
    assert (chunk.type, chunk.tool_call_id, chunk.toolCallId, chunk.plain, chunk.snake_case) == ("new", "c", "c", 1, 3)
    assert chunk.data["data"] == 2
    with pytest.raises(AttributeError):
        _ = chunk.none


def test_a_field_named_as_the_struct_keeps_extra_in_is_no_way_in() -> None:
    wire = b'{"type":"text_delta","delta":"x","~helix_fast.extra":{"delta":"forged"}}'
    chunk = decode_chunk(wire)
    assert isinstance(chunk, TextDeltaChunk)
    assert chunk.delta == "x"
    assert json.loads(encode_chunk(chunk))["delta"] == "x"


def entry_of(*objects: dict[str, Any], readers: int) -> codec.StreamEntry:
    """A pushed entry of these chunks, whose last has sequence 10."""
    body = b"\n".join(json.dumps(each, separators=(",", ":")).encode() for each in objects)
    entry = codec.StreamEntry(1, 11 - len(objects), 10, body)
    entry.readers = readers
    return entry


def taken(entry: codec.StreamEntry, seen: int) -> Any:
    """What a reader that has seen so much gets of an entry that is pushed to it."""
    pushes = codec.PushBuffer()
    pushes.window, pushes.decoder = codec.Window(seen), LineDecoder()
    pushes.start()
    pushes.begin_read()
    pushes.pushed(entry)
    return pushes.next_pushed()


def text_of(delta: str) -> dict[str, Any]:
    return {"type": "text_delta", "delta": delta, "agentId": "a", "timestamp": 5}


@pytest.mark.parametrize(
    "objects",
    [
        [text_of("one")],
        [text_of("one"), text_of("two"), text_of("three")],
        [text_of("one"), {"type": "tool_start", "toolCallId": "c", "toolName": "t", "arguments": {"n": [1]}}],
        [{"type": "text_delta", "delta": "x", "more": {"n": [1]}}],
        [{"type": "no such", "data": [1]}],
        [text_of("one"), {"type": 7}],
        [{}],
    ],
)
@pytest.mark.parametrize("readers", [0, 1, 2, 3])
def test_readers_of_one_entry_get_equal_chunks_and_share_none(objects: list[dict[str, Any]], readers: int) -> None:
    entry = entry_of(*objects, readers=readers)
    alone = LineDecoder().decode(entry.body, 10, 10 - len(objects))
    for _ in range(readers + 1):  # one more than it was delivered to
        first, chunks, faulty = taken(entry, 10 - len(objects))
        assert (first, faulty, len(chunks)) == (alone[0], alone[2], len(alone[1]))
        for chunk, expected in zip(chunks, alone[1], strict=True):
            assert type(chunk) is type(expected)
            assert isinstance(chunk, MalformedChunkError) or chunk == expected
            if isinstance(chunk, Chunk):  # spoil it for the others, if they have the same
                chunk.agent_id = "spoilt"
                if chunk.extra is not msgspec.UNSET:
                    chunk.extra.clear()
            if isinstance(chunk, ToolStartChunk):
                chunk.arguments["n"].append(2)
            if isinstance(chunk, UnknownChunk):
                chunk.data["data"].append(2)
        chunks.clear()


def test_a_reader_that_knows_a_part_of_an_entry_gets_the_rest() -> None:
    for seen_by_each in ((7, 9, 7), (9, 7, 9), (8, 8, 8)):
        entry = entry_of(text_of("8"), text_of("9"), text_of("10"), readers=3)
        for seen in seen_by_each:
            first, chunks, _faulty = taken(entry, seen)
            assert first == seen + 1
            assert [chunk.delta for chunk in chunks if isinstance(chunk, TextDeltaChunk)] == [
                str(sequence) for sequence in range(seen + 1, 11)
            ]


LONE = rb'"cut \ud83d","more":["\uDE00","\ud83d\ude00","\\ud83d"]'


@pytest.mark.parametrize(
    "wire",
    [
        rb'{"type":"text_delta","delta":%b}',
        rb'{"type":"text_delta","delta":%b,"agentId":"a","timestamp":1}',
        rb'{"type":"custom","eventName":%b}',
        rb'{"type":"of a later version","said":%b}',
    ],
)
def test_lone_surrogates_of_a_foreign_writer_are_read_as_the_replacement_character(wire: bytes) -> None:
    data = wire % LONE
    expected = decode_chunk(wire % rb'"cut \ufffd","more":["\ufffd","\ud83d\ude00","\\ud83d"]')
    assert decode_chunk(data) == expected
    before = b'{"type":"text_delta","delta":"x","agentId":"a","timestamp":1}'
    for decode in (LineDecoder().decode, decode_lines):
        first, chunks, faulty = decode(before + b"\n" + data + b"\n" + before, 3, 0)
        assert (first, faulty) == (1, False)
        assert chunks == [decode_chunk(before), expected, decode_chunk(before)]


def test_what_is_no_json_besides_a_lone_surrogate_is_named_with_its_own_bytes() -> None:
    data = rb'{"type":"text_delta","delta":"\ud83d"'
    with pytest.raises(MalformedChunkError) as caught:
        decode_chunk(data, 7)
    assert (caught.value.sequence, caught.value.data) == (7, data)


@pytest.mark.parametrize(
    ("chunk", "meant"),
    [
        ({"type": "tool_start", "tool_call_id": "c", "toolName": "t"}, "toolCallId"),
        ({"type": "text_delta", "delta": "x", "agent_id": "a"}, "agentId"),
        ({"type": "custom", "event_name": "e"}, "eventName"),
    ],
)
def test_a_name_in_snake_case_is_refused_with_the_name_that_is_meant(chunk: dict[str, Any], meant: str) -> None:
    with pytest.raises(MalformedChunkError, match=meant):
        encode_chunk(chunk)


def test_other_names_in_snake_case_are_data() -> None:
    for chunk in (
        {"type": "of a later version", "tool_call_id": "c"},
        {"type": "custom", "eventName": "e", "my_own": 1, "data": {"event_name": 1}},
    ):
        assert json.loads(encode_chunk(chunk)) == chunk


def test_a_value_that_cannot_be_written_is_named_by_its_path() -> None:
    with pytest.raises(MalformedChunkError, match=r"data\.a\[1\]: "):
        encode_chunk({"type": "custom", "eventName": "e", "data": {"a": [1, object()]}})
