"""Text in other protocols, as it is stored: byte for byte what decoding and encoding each chunk would send."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.codec import ChunkEncoder
from helix_fast.integrations.ag_ui_events import AGUIEvents
from helix_fast.integrations.ag_ui_mapping import AGUIMapping
from helix_fast.integrations.chats import plain_text
from helix_fast.integrations.sse import EventCodec
from helix_fast.integrations.vercel_chunks import VercelEvents
from helix_fast.integrations.vercel_mapping import VercelMapping
from helix_fast.streams.chunks import encode_chunk
from helix_fast.streams.lines import Lines

texts = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\/\n\r\t\0\x7f\u2028😀'), max_size=12)
encoders = [ChunkEncoder("a", "assistant"), ChunkEncoder("a"), ChunkEncoder("b")]
OURS: list[dict[str, Any]] = [
    {"type": "tool_start", "toolCallId": "1", "toolName": "t", "arguments": {}},
    {"type": "tool_end", "toolCallId": "1", "result": 1, "success": True},
    {"type": "custom", "eventName": "e", "data": None},
    {"type": "text_delta", "delta": "of a dict"},
    {"type": "text_delta", "delta": "more", "agentId": "a", "agentType": "assistant", "timestamp": 7, "extra": 1},
    {"type": "ui", "protocol": "vercel", "version": 1, "sdkVersion": 7},
]
THEIRS: list[dict[str, Any]] = [
    {"type": "start", "messageId": "m"},
    {"type": "text-start", "id": "1"},
    {"type": "text-delta", "id": "1", "delta": "x", "providerMetadata": {}},
    {"type": "error", "errorText": "e"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "data-x", "delta": {"a": "b"}},
    {"type": "data-x", "delta": "b", "x": '"}'},
]
our_lines = st.one_of(
    st.builds(lambda text, encoder: encoder.encode_text(text, 7), texts, st.sampled_from(encoders)),
    st.builds(lambda text: encoders[0].encode_text(text, 7), texts),
    st.builds(lambda text: encode_chunk({"type": "thinking", "content": text}), texts),
    st.sampled_from(
        [encode_chunk(chunk) for chunk in OURS] + [b"no chunk", b"{}", b'{"type":"text_delta","delta":"\\u0041"}']
    ),
)
deltas = st.builds(
    lambda text, kind, part: {"type": kind, "id": part, "delta": text},
    texts,
    st.sampled_from(["text-delta", "reasoning-delta", "TEXT_MESSAGE_CONTENT"]),
    st.sampled_from("12"),
)
their_lines = st.one_of(
    (deltas | st.sampled_from(THEIRS)).map(lambda chunk: encode_chunk({"type": "ui", "chunk": chunk})),
    deltas.map(lambda chunk: json.dumps({"type": "ui", "chunk": chunk}).encode()),
)
sizes = st.lists(st.integers(1, 8), max_size=12)


def codecs(kind: str, *, ours: bool, begin: int, fast: bool) -> EventCodec:
    if kind == "vercel":
        mapping = VercelMapping(7, "m") if ours else None
        made: Any = VercelEvents(7, plain_text, skip=begin, mapping=mapping)
    else:
        made = AGUIEvents("0" * 16, plain_text, after=(begin, 0), mapping=AGUIMapping("t", "r") if ours else None)
    if not fast:
        # a codec that never learns a form decodes each chunk
        made.__class__ = type("Decoding", (type(made),), {"form": property(lambda _: None, lambda _, _form: None)})
    codec: EventCodec = made
    return codec


def sent(codec: EventCodec, lines: list[bytes], sizes: list[int], epoch: str, term: str) -> bytes:
    """What a client gets of lines that arrive in batches, each of which repeats the last line of the one before."""
    found, after = b"", 0
    for size in [*sizes, len(lines)]:
        last = min(len(lines), after + size)
        if last > after:
            body = b"\n".join(lines[max(0, after - 1) : last])
            found += b"".join(codec.chunks(Lines(body, last, after, epoch, term)))
            after = last
    return found + codec.end()


@pytest.mark.parametrize("kind", ["vercel", "ag-ui"])
@given(lines=st.lists(our_lines, max_size=30), sizes=sizes, begin=st.integers(0, 12), term=st.sampled_from(["", "1a"]))
def test_chunks_of_ours_are_framed_as_if_they_were_decoded(kind, lines, sizes, begin, term) -> None:
    fast, slow = (codecs(kind, ours=True, begin=begin, fast=fast) for fast in (True, False))
    assert sent(fast, lines, sizes, "e", term) == sent(slow, lines, sizes, "e", term)


@pytest.mark.parametrize("kind", ["vercel", "ag-ui"])
@given(lines=st.lists(their_lines, max_size=30), sizes=sizes, begin=st.integers(0, 12))
def test_chunks_of_theirs_are_framed_as_if_they_were_decoded(kind, lines, sizes, begin) -> None:
    fast, slow = (codecs(kind, ours=False, begin=begin, fast=fast) for fast in (True, False))
    assert sent(fast, lines, sizes, "e", "1a") == sent(slow, lines, sizes, "e", "1a")


@given(lines=st.lists(our_lines, max_size=30), sizes=sizes)
def test_deltas_that_are_read_together_become_one_with_the_same_text(lines, sizes) -> None:
    def parts(text: bytes) -> list[Any]:
        """The chunks, consecutive deltas of one part joined."""
        found: list[Any] = []
        for frame in re.findall(rb"data: (\{.*)\n\n", text):
            chunk = msgspec.json.decode(frame)
            if (
                found
                and chunk["type"].endswith("-delta")
                and (found[-1]["type"], found[-1].get("id")) == (chunk["type"], chunk["id"])
            ):
                found[-1]["delta"] += chunk["delta"]
            else:
                found.append(chunk)
        return found

    joined = VercelEvents(7, plain_text, coalesce=True, mapping=VercelMapping(7, "m"))
    text = sent(joined, lines, sizes, "e", "")
    assert parts(text) == parts(sent(codecs("vercel", ours=True, begin=0, fast=False), lines, sizes, "e", ""))
    text = b"".join(
        joined.chunks(Lines(b"\n".join(encoders[0].encode_text("ab", 7) for _ in range(50)), 50, 0, "e", ""))
    )
    assert text.count(b'"text-delta"') == 1
    assert b"ab" * 50 in text


def test_text_is_not_decoded_a_second_time() -> None:
    """A chunk that differs from the one before in its text alone is never made an object."""
    codec = VercelEvents(7, plain_text, mapping=VercelMapping(7, "m"))
    seen: list[Any] = []
    other = codec.other
    codec.other = lambda *args: seen.append(args) or other(*args)  # type: ignore[method-assign, func-returns-value]
    body = b"\n".join(encoders[0].encode_text(str(number), number) for number in range(1, 1001))
    frames = codec.chunks(Lines(body, 1000, 0, "e", "1a"))
    assert len(seen) == 1
    assert b"".join(frames).count(b'"text-delta"') == 1000
    assert codec.count == 1003
