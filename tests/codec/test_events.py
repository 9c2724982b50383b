"""Stored lines framed as server-sent events: the lines of one encoder as they are, and the places of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, compared, numbers, on_each_twin, texts

LIMIT = 1 << 16
others = st.sampled_from(
    [b"{}", b"[", b'{"type":"thinking","content":"x"}', b'{"type":"text_delta","delta":"a\\u0001"}']
)


def framed(parts, first, lines, prefix) -> list[bytes]:
    """The events of all lines, with those of other encoders as they are."""
    found: list[bytes] = []
    for part in parts:
        found += [lines[part - first]] if isinstance(part, int) else part.split(b"\n\n")[:-1]
    return found


@on_each_twin
@given(deltas=st.lists(texts | others, min_size=1, max_size=20), before=st.integers(0, 50), after=st.integers(0, 80))
def test_events_have_positions_and_the_lines_as_they_are(codec, deltas, before, after) -> None:
    encoder = codec.ChunkEncoder("agent", "type")
    lines = [one if isinstance(one, bytes) else encoder.encode_text(one, 7) for one in deltas]
    last = before + len(lines)
    first, parts = codec.frame_events(encoder, b"\n".join(lines), last, after, b"e:1a:", LIMIT)
    wanted = max(0, min(len(lines), last - max(before, after)))
    assert first == last + 1 - wanted
    expected = [
        line if isinstance(one, bytes) or "\\u00" in line.decode() else b"id: e:1a:%d\ndata: %s" % (sequence, line)
        for sequence, one, line in zip(range(before + 1, last + 1), deltas, lines, strict=True)
    ]
    assert framed(parts, before + 1, lines, b"e:1a:") == expected[len(lines) - wanted :]


@on_each_twin
@pytest.mark.parametrize("text", ["x" * 5_000, "é" * 300, "é" * 3_000, '"\\\n' * 400, "日本語", ""])
def test_long_and_foreign_texts_are_framed(codec, text) -> None:
    encoder = codec.ChunkEncoder("a")
    line = encoder.encode_text(text, 1)
    assert codec.frame_events(encoder, line, 1, 0, b"", LIMIT) == (1, [b"id: 1\ndata: " + line + b"\n\n"])


@on_each_twin
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b"x", b"\xff"),
        lambda line: line.replace(b"x", b"\xff" * 600),
        lambda line: line.replace(b"x", b"\r"),
        lambda line: line.replace(b"x", b"\\u0001"),
        lambda line: line.replace(b"x", b"\\"),
        lambda line: line[:-1],
        lambda line: line + b" ",
        lambda line: line.replace(b"7}", b"07}"),
        lambda line: line.replace(b"7}", b"}"),
        lambda line: line.replace(b'"a"', b'"b"'),
        lambda line: line.replace(b"7}", b"7" * 17 + b"}"),
    ],
)
def test_line_of_another_form_is_left_to_the_caller(codec, change) -> None:
    encoder = codec.ChunkEncoder("a")
    good = encoder.encode_text("x", 7)
    event = b"id: %d\ndata: " + good.replace(b"%", b"%%") + b"\n\n"
    parts = codec.frame_events(encoder, b"\n".join([good, change(good), good]), 3, 0, b"", LIMIT)[1]
    assert parts == [event % 1, 2, event % 3]


@on_each_twin
def test_parts_end_at_the_limit(codec) -> None:
    encoder = codec.ChunkEncoder("a")
    body = b"\n".join(encoder.encode_text("x" * 100, 1) for _ in range(50))
    whole = codec.frame_events(encoder, body, 50, 0, b"", LIMIT)[1]
    parts = codec.frame_events(encoder, body, 50, 0, b"", 1_000)[1]
    assert len(whole) == 1
    assert b"".join(parts) == whole[0]
    assert all(1_000 <= len(part) < 1_200 for part in parts[:-1])
    assert len(codec.frame_events(encoder, body, 50, 0, b"", 0)[1]) == 50


def answer(twin, *arguments):
    try:
        return twin.frame_events(twin.ChunkEncoder("a"), *arguments)
    except Exception as error:
        return type(error)


@compared
@given(
    body=st.binary(max_size=60) | st.text("a\n", max_size=20).map(str.encode),
    last=numbers,
    after=numbers,
    prefix=st.binary(max_size=8) | st.text(),
    limit=numbers,
)
def test_twins_frame_or_refuse_alike(body, last, after, prefix, limit) -> None:
    one, other = (answer(twin, body, last, after, prefix, limit) for twin in TWINS)
    assert one == other


HEAD = b'{"type":"text_delta","delta":"'


def stored_text(codec, encoder, text) -> bytes:
    """A text as the encoder writes it, without its quotes."""
    line = encoder.encode_text(text, 7)
    return line[len(HEAD) : -len(encoder.encode_text("", 7)) + len(HEAD)]


@on_each_twin
@given(
    deltas=st.lists(texts | others, max_size=20),
    after=st.integers(0, 80),
    join=st.booleans(),
    limit=st.integers(0, 400),
)
def test_leading_texts_are_put_between_other_bytes_as_they_are_written(codec, deltas, after, join, limit) -> None:
    encoder = codec.ChunkEncoder("agent", "type")
    tail = encoder.encode_text("", 7)[len(HEAD) : -2]
    lines = [one if isinstance(one, bytes) else encoder.encode_text(one, 7) for one in deltas]
    last = 50 + len(lines)
    begin = max(50, min(after, last))
    first, count, frames = codec.frame_deltas(HEAD, tail, b"\n".join(lines), last, after, b"<", b":", b">", limit, join)
    expected, number = b"", 0
    for sequence, delta in enumerate(deltas[begin - 50 :], begin + 1):
        text = b"" if isinstance(delta, bytes) else stored_text(codec, encoder, delta)
        if not text or b"\\u00" in text:
            break
        expected += b"" if join and expected else b"<%d:" % sequence
        expected += text if join else text + b">"
        number += 1
        if len(expected) >= limit:
            break
    assert (first, count, frames) == (begin + 1, number, expected + b">" if join and expected else expected)


@on_each_twin
@pytest.mark.parametrize(
    "line", [b'{"t":"a\\/b"}', b'{"t":""}', b'{"t":"\xff"}', b'{"t":"a"} ', b'{"t":"a",}', b'{"u":"a"}', b'{"t":"a']
)
def test_text_that_would_be_written_in_another_way_is_left_to_the_caller(codec, line) -> None:
    body = b'{"t":"a"}\n' + line + b'\n{"t":"b"}'
    assert codec.frame_deltas(b'{"t":"', b'"', body, 3, 0, b"<", None, b">", LIMIT) == (1, 1, b"<a>")
    assert codec.frame_deltas(b'{"t":"', b'"', body, 3, 1, b"<", None, b">", LIMIT) == (2, 0, b"")
    assert codec.frame_deltas(b'{"t":"', b'"', body, 3, 2, b"<", None, b">", LIMIT) == (3, 1, b"<b>")


def deltas_answer(twin, *arguments):
    try:
        return twin.frame_deltas(*arguments)
    except Exception as error:
        return type(error)


@compared
@given(
    heads=st.tuples(st.binary(max_size=4) | st.just(b'{"t":"'), st.sampled_from([b'"', b'","n":', b"", b"\n", ":"])),
    body=st.binary(max_size=30) | st.text('{"t":a,n7}\\\n', max_size=60).map(str.encode),
    last=numbers,
    after=numbers,
    around=st.tuples(st.binary(max_size=3), st.none() | st.binary(max_size=3) | st.just("x"), st.binary(max_size=3)),
    limit=numbers,
    join=st.booleans(),
)
def test_twins_frame_or_refuse_texts_alike(heads, body, last, after, around, limit, join) -> None:
    one, other = (deltas_answer(twin, *heads, body, last, after, *around, limit, join) for twin in TWINS)
    assert one == other
