"""Replies as the server wrote them: cut, pages of a stream, arrays of strings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.twins import TWINS, assert_same, compared, on_each_twin, outcome
from tests.fuzz.replies import as_reply

values = st.recursive(
    st.binary(max_size=40)
    | st.integers(-5, 2**40)
    | st.none()
    | st.sampled_from(["OK", "a b", "", [], b"\r\n$-1\r\n"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@on_each_twin
@given(st.lists(values, max_size=5), st.lists(st.integers(1, 30), max_size=20))
def test_replies_are_cut_where_they_end_however_they_arrive(codec, sent, lengths) -> None:
    replies = [as_reply(value) for value in sent]
    data = b"".join(replies) + b"*2\r\n$1\r\n"
    cutter = codec.ReplyCutter()
    found = []
    for length in [*lengths, len(data)]:
        piece, data = data[:length], data[length:]
        cutter.feed(piece)
        while (reply := cutter.next()) is not None:
            found.append(reply)
    assert found == replies
    assert cutter.size == 8
    assert cutter.next() is None
    assert cutter.rest() == b"*2\r\n$1\r\n"
    assert (cutter.size, cutter.rest()) == (0, b"")


@on_each_twin
@pytest.mark.parametrize("data", [b"x\r\n", b"$x\r\n", b"$01\r\na\r\n", b"$1\r\nabc", b"*1\n", b"*-2\r\n", b"*1\r\n?"])
def test_what_is_no_reply_is_refused(codec, data) -> None:
    cutter = codec.ReplyCutter()
    cutter.feed(b":1\r\n" + data)
    assert cutter.next() == b":1\r\n"
    with pytest.raises(ValueError, match="no reply"):
        cutter.next()


@on_each_twin
def test_too_many_values_are_refused_before_they_overflow(codec) -> None:
    cutter = codec.ReplyCutter()
    cutter.feed(b"*999999999999\r\n" * 3)
    with pytest.raises(ValueError, match="too many"):
        cutter.next()


@on_each_twin
def test_a_long_reply_in_many_pieces(codec) -> None:
    reply = as_reply([b"x" * 200_000] * 20)
    cutter = codec.ReplyCutter()
    for at in range(0, len(reply), 70_001):
        assert cutter.next() is None
        cutter.feed(reply[at : at + 70_001])
    assert cutter.next() == reply
    cutter.feed(b"+OK\r\n")
    assert cutter.next() == b"+OK\r\n"


def entry(number: int, lines: int = 1, **fields: bytes) -> list[object]:
    body = b"\n".join(b'{"n":%d}' % number for _ in range(lines))
    made = {"chunk": body, "sequence": b"%d" % number, "writer": b"abcd0001", **fields}
    return [b"7-%d" % number, [word for name, value in made.items() for word in (name.encode(), value)]]


@on_each_twin
def test_a_page_is_joined_as_far_as_its_entries_continue(codec) -> None:
    page = [entry(5), entry(7, 2), entry(8), entry(10)]
    body = b'{"n":5}\n{"n":7}\n{"n":7}\n{"n":8}'
    assert codec.merge_page(as_reply(page), 4) == (4, 3, 8, b"7-5", b"7-8", body)
    assert codec.merge_page(as_reply(page), 5) == (4, 0, 5, b"", b"", b"")
    assert codec.merge_page(as_reply([]), 5) == (0, 0, 5, b"", b"", b"")
    event = [b"7-6", [b"event", b"ended"]]
    assert codec.merge_page(as_reply([entry(5), event]), 4)[:3] == (2, 1, 5)
    for wrong in ({"chunk": b""}, {"sequence": b"05"}, {"sequence": b"9" * 17}, {"more": b"x"}, {"writer": 5}):
        assert codec.merge_page(as_reply([entry(5), entry(6, **wrong), entry(7)]), 4)[:3] == (3, 1, 5)
    with pytest.raises(ValueError, match="XRANGE"):
        codec.merge_page(b"-ERR no\r\n", 4)


@compared
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=6), st.integers(0, 9), st.data())
def test_both_codecs_read_a_page_alike(entries, last, data) -> None:
    reply = as_reply([entry(number, lines) for number, lines in entries])
    assert_same("merge_page", reply, last)
    at = data.draw(st.integers(0, len(reply)))
    damaged = reply[:at] + data.draw(st.binary(max_size=3)) + reply[at + data.draw(st.integers(0, 3)) :]
    assert_same("merge_page", damaged, last)
    assert outcome(lambda: TWINS[0].StringArray(damaged).strings()) == outcome(
        lambda: TWINS[1].StringArray(damaged).strings()
    )


@on_each_twin
def test_an_array_has_its_ends_and_its_strings(codec) -> None:
    array = codec.StringArray(as_reply([b"a", b"", b"c\r\n"]))
    assert (len(array), array.first, array.last) == (3, b"a", b"c\r\n")
    assert [array.strings(first) for first in (0, 1, 3, 9)] == [[b"a", b"", b"c\r\n"], [b"", b"c\r\n"], [], []]
    empty = codec.StringArray(b"*0\r\n")
    assert (len(empty), empty.first, empty.last, empty.strings()) == (0, b"", b"", [])
    for wrong in (b"$1\r\na\r\n", b"*1\r\n:5\r\n", b"*1\r\n$1\r\na\r\n+", b"*2\r\n$1\r\na\r\n", b"", b"*1\r\n$-1\r\n"):
        with pytest.raises(ValueError, match="no array"):
            codec.StringArray(wrong)


@on_each_twin
@given(st.integers(0, 12), st.integers(0, 14))
def test_entries_of_a_reply_are_summed_as_a_list_of_them(codec, count, first) -> None:
    kinds = [
        {"kind": "tool", "toolName": "t"},
        {"kind": "custom", "type": "c", "value": 1.5},
        {"kind": 5},
        {"kind": "\ud83d"},
    ]
    entries = [json.dumps(kinds[number % 4] | {"timestamp": number}).encode() for number in range(count)]
    one, other = codec.Rollup(), codec.Rollup()
    one.add_strings(codec.StringArray(as_reply(entries)), first)
    other.add(entries[first:])
    assert one.export() == other.export()


class Channel:
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def receive(self, payload: bytes) -> None:
        self.received.append(payload)


@on_each_twin
@given(st.lists(st.one_of(values, st.tuples(st.sampled_from([b"a", b"bc", b""]), st.binary(max_size=40)))), st.data())
def test_messages_reach_their_channels_and_other_replies_come_back(codec, sent, data) -> None:
    """In their order, however they arrive; messages of channels that are not there are dropped."""
    stream, others, received = b"", [], {b"a": [], b"bc": []}
    for each in sent:
        if isinstance(each, tuple):
            kind = data.draw(st.sampled_from([b"message", b"smessage"]))
            stream += as_reply([kind, *each])
            received.get(each[0], []).append(each[1])
        else:
            others.append(as_reply(each))
            stream += others[-1]
    cutter, channels = codec.ReplyCutter(), {name: Channel() for name in received}
    found = []
    while stream:
        length = data.draw(st.integers(1, 60))
        cutter.feed(stream[:length])
        stream = stream[length:]
        while (reply := codec.deliver_messages(cutter, channels)) is not None:
            found.append(reply)
    assert found == others
    assert {name: channel.received for name, channel in channels.items()} == received
    assert cutter.size == 0


@on_each_twin
def test_a_message_is_gone_before_its_channel_has_it(codec) -> None:
    """What a subscriber does may close the connection, and so empty the cutter, or feed it."""
    cutter, message = codec.ReplyCutter(), as_reply([b"message", b"a", b"x"])

    class Closing(Channel):
        def receive(self, payload: bytes) -> None:
            super().receive(payload)
            assert cutter.rest() == message
            cutter.feed(b"+later\r\n")

    channel = Closing()
    cutter.feed(message * 2)
    assert codec.deliver_messages(cutter, {b"a": channel}) == b"+later\r\n"
    assert channel.received == [b"x"]
    cutter.feed(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$x\r\n")
    with pytest.raises(ValueError, match="no reply"):
        codec.deliver_messages(cutter, {b"a": channel})
    for arguments in ((None, {}), (b"", {})):
        with pytest.raises((TypeError, AttributeError)):
            codec.deliver_messages(*arguments)
