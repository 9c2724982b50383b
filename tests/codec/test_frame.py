"""RESP frames, read back by hiredis, and published payloads."""

from __future__ import annotations

import enum

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import (
    TWINS,
    U64_MAX,
    assert_same,
    compared,
    numbers,
    on_each_twin,
    outcome,
    texts,
    u64s,
)

blobs = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"\r\n", b"$3\r\n", b"a\nb", b"\0", b"x" * 1000]))
sequences = st.integers(1, U64_MAX)


def read_back(frame: bytes) -> list[bytes]:
    """A frame's arguments; it must be exactly one command."""
    assert type(frame) is bytes
    reader = hiredis.Reader()
    reader.feed(frame)
    command = reader.gets()
    assert isinstance(command, list)
    assert reader.gets() is False
    assert not reader.has_data()
    return command


@on_each_twin
@given(
    key=blobs,
    term=u64s,
    first=sequences,
    count=st.integers(1, 10**6),
    body=blobs,
    nonce=blobs,
    min_id=st.none() | blobs,
)
def test_xadd_frame_is_the_append_it_says(codec, key, term, first, count, body, nonce, min_id) -> None:
    framer = codec.AppendFramer(key, b"channel")
    last = first + count - 1
    if last > U64_MAX:
        with pytest.raises(OverflowError):
            framer.xadd(term, first, count, body, nonce, min_id)
        with pytest.raises(OverflowError):
            framer.xadd_pieces(term, first, count, body, nonce, min_id)
        return
    trim = [] if min_id is None else [b"MINID", b"=", min_id]
    assert read_back(framer.xadd(term, first, count, body, nonce, min_id)) == [
        *(b"XADD", key, b"NOMKSTREAM", *trim, b"%d-%d" % (term, first)),
        *(b"chunk", body, b"sequence", b"%d" % last, b"writer", nonce),
    ]
    pieces = framer.xadd_pieces(term, first, count, body, nonce, min_id)
    assert b"".join(pieces) == framer.xadd(term, first, count, body, nonce, min_id)
    assert pieces[1] is body


@on_each_twin
def test_xadd_frame_holds_the_largest_numbers_and_a_mebibyte(codec) -> None:
    framer, body = codec.AppendFramer(b"key", b"channel"), b"y" * 2**20
    command = read_back(framer.xadd(U64_MAX, U64_MAX, 1, body, b"nonc", b"%d-%d" % (U64_MAX, U64_MAX)))
    assert command[6:] == [
        b"%d-%d" % (U64_MAX, U64_MAX),
        b"chunk",
        body,
        b"sequence",
        b"%d" % U64_MAX,
        b"writer",
        b"nonc",
    ]
    assert read_back(framer.xadd(0, 1, U64_MAX, b"", b""))[3:] == [
        b"0-1",
        b"chunk",
        b"",
        b"sequence",
        b"%d" % U64_MAX,
        b"writer",
        b"",
    ]


@on_each_twin
def test_a_framer_serves_many_appends(codec) -> None:
    framer = codec.AppendFramer(b"k", b"c")
    for first in range(1, 200):
        assert read_back(framer.xadd(7, first, 1, b"x", b"n"))[3:8:2] == [b"7-%d" % first, b"x", b"%d" % first][:3]


@on_each_twin
@given(
    channel=blobs, command=st.sampled_from([b"PUBLISH", b"SPUBLISH"]), term=u64s, ends=st.tuples(u64s, u64s), body=blobs
)
def test_a_published_payload_is_read_as_it_was_written(codec, channel, command, term, ends, body) -> None:
    first, last = sorted(ends)
    framer = codec.AppendFramer(b"key", channel, command)
    published = read_back(framer.publish(term, first, last, body))
    assert published[:2] == [command, framer.channel]
    assert published[2] == b"%d-%d:%d\n%b" % (term, first, last, body)
    assert codec.parse_push(published[2]) == (term, first, last, body)


@on_each_twin
def test_publish_is_the_default_command(codec) -> None:
    assert read_back(codec.AppendFramer(b"k", b"c").publish(1, 2, 3, b"x")) == [b"PUBLISH", b"c", b"1-2:3\nx"]


@on_each_twin
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, 0, 1, b"x", b"n"), ValueError),
        ((1, 1, 0, b"x", b"n"), ValueError),
        ((-1, 1, 1, b"x", b"n"), OverflowError),
        ((U64_MAX + 1, 1, 1, b"x", b"n"), OverflowError),
        ((1, U64_MAX, 2, b"x", b"n"), OverflowError),
        ((1, 2, U64_MAX, b"x", b"n"), OverflowError),
        ((1, 1, 1, "x", b"n"), TypeError),
        ((1, 1, 1, bytearray(b"x"), b"n"), TypeError),
        ((1, 1, 1, b"x", "n"), TypeError),
        ((1, 1, 1, b"x", b"n", "0-1"), TypeError),
        ((True, 1, 1, b"x", b"n"), TypeError),
    ],
)
def test_xadd_refuses_what_is_no_append(codec, arguments, error) -> None:
    with pytest.raises(error):
        codec.AppendFramer(b"k", b"c").xadd(*arguments)


@compared
@given(
    term=numbers,
    first=numbers,
    count=numbers,
    body=blobs | texts,
    nonce=blobs | st.none(),
    min_id=st.none() | blobs | texts,
)
def test_twins_frame_or_refuse_appends_alike(term, first, count, body, nonce, min_id) -> None:
    framers = [twin.AppendFramer(b"k", b"c") for twin in TWINS]
    added = [outcome(framer.xadd, term, first, count, body, nonce, min_id) for framer in framers]
    published = [outcome(framer.publish, term, first, count, body) for framer in framers]
    assert added[0] == added[1]
    assert published[0] == published[1]


@on_each_twin
@pytest.mark.parametrize("arguments", [("k", b"c"), (b"k", None), (b"k", b"c", "PUBLISH"), (b"k", bytearray(b"c"))])
def test_framer_takes_bytes_only(codec, arguments) -> None:
    with pytest.raises(TypeError, match="must be bytes"):
        codec.AppendFramer(*arguments)


class Level(enum.IntEnum):
    HIGH = 7


class Tagged(bytes):
    __slots__ = ()


arguments_of_commands = st.one_of(blobs, texts, st.integers(), st.floats())


def as_sent(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else repr(value).encode()


@on_each_twin
@given(arguments=st.lists(arguments_of_commands, min_size=1, max_size=12))
def test_a_command_is_read_back_as_its_arguments(codec, arguments) -> None:
    expected = [as_sent(argument) for argument in arguments]
    assert read_back(codec.frame_command(arguments)) == expected
    assert read_back(codec.frame_command(tuple(arguments))) == expected
    assert all(frame == codec.frame_command(arguments) for frame in (twin.frame_command(arguments) for twin in TWINS))


@on_each_twin
def test_commands_of_subclasses_and_of_many_arguments(codec) -> None:
    assert read_back(codec.frame_command([Tagged(b"SET"), Level.HIGH, -(10**30), 0.1])) == [
        b"SET",
        b"7",
        b"-1" + b"0" * 30,
        b"0.1",
    ]
    many = ["MSET", *map(str, range(5000)), "é" * 2**19]
    assert read_back(codec.frame_command(many)) == [part.encode() for part in many]


@on_each_twin
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], ValueError),
        ("PING", TypeError),
        (b"PING", TypeError),
        (["SET", True], TypeError),
        (["SET", None], TypeError),
        (["SET", bytearray(b"x")], TypeError),
        (["SET", ["x"]], TypeError),
        (["SET", chr(0xD800)], UnicodeEncodeError),
        (["SET", 1, chr(0xD800)], UnicodeEncodeError),
    ],
)
def test_command_refuses_other_arguments(codec, arguments, error) -> None:
    with pytest.raises(error):
        codec.frame_command(arguments)
    assert_same("frame_command", arguments)


MALFORMED = [
    *(
        b"",
        b"\n",
        b"1",
        b"1-2",
        b"1-2:3",
        b"1-2:\n",
        b"-2:3\n",
        b"1-:3\n",
        b"1:2-3\n",
        b"1-2:3x\n",
        b"1-2:3\r\n",
        b" 1-2:3\n",
    ),
    *(b"+1-2:3\n", b"-1-2:3\n", b"1_0-2:3\n", b"01-2:3\n", b"1-00:3\n", b"1-2: 3\n", "١-2:3\n".encode(), b"0x1-2:3\n"),
    *(
        b"18446744073709551616-1:1\n",
        b"1-18446744073709551616:1\n",
        b"1-1:18446744073709551616\n",
        b"9" * 40 + b"-1:1\n",
    ),
    *(b"1-3:2\n", b"1-99999999999999999999:1\n", b"1-2:3\0\n", b"\x001-2:3\n"),
]


@on_each_twin
@pytest.mark.parametrize("payload", MALFORMED)
def test_malformed_payload_is_a_value_error(codec, payload) -> None:
    with pytest.raises(ValueError, match="malformed push payload"):
        codec.parse_push(payload)


@on_each_twin
def test_payload_at_the_edges_is_read(codec) -> None:
    assert codec.parse_push(b"0-0:0\n") == (0, 0, 0, b"")
    top = b"18446744073709551615"
    assert codec.parse_push(top + b"-" + top + b":" + top + b"\n\n1-2:3\n") == (U64_MAX, U64_MAX, U64_MAX, b"\n1-2:3\n")
    with pytest.raises(TypeError):
        codec.parse_push("1-2:3\n")


@compared
@given(payload=st.one_of(blobs, st.from_regex(rb"\A[0-9+ ]{0,22}[-:]?[0-9]{0,22}[:-]?[0-9]{0,22}\n?.{0,5}\Z")))
def test_twins_read_or_refuse_payloads_alike(payload) -> None:
    assert_same("parse_push", payload)
