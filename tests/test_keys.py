"""Key names: as documented, every key of a stream in one slot, and no id that could break out of its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from helix_fast import InvalidArgumentError, InvalidIdError
from helix_fast.keys import (
    INDEX_SHARDS,
    LockKeys,
    SessionKeys,
    StreamKeys,
    UsageKeys,
    check_id,
    check_prefix,
    index_shard,
    stream_control,
    usage_index,
)

GOOD_IDS = st.text(st.characters(exclude_characters="{}", exclude_categories=("C", "Z")), min_size=1, max_size=100)


def test_the_names_of_a_stream_are_the_documented_ones() -> None:
    keys = StreamKeys("helix:", "a b-é:1")
    tag = "helix:stream:{a b-é:1}".encode()
    assert (keys.stream, keys.meta, keys.lease, keys.channel) == (tag, tag + b":meta", tag + b":lease", tag + b":push")
    assert stream_control("helix:") == b"helix:stream-control"
    assert StreamKeys("", "x").stream == b"stream:{x}"


@given(GOOD_IDS, st.sampled_from(["helix:", "", "other-prefix"]))
def test_all_keys_of_one_id_are_in_one_slot(name: str, prefix: str) -> None:
    for keys in (
        StreamKeys(prefix, name), SessionKeys(prefix, name), LockKeys(prefix, name), UsageKeys(prefix, name)
    ):  # fmt: skip
        names = [name for name in (getattr(keys, slot) for slot in keys.__slots__) if isinstance(name, bytes)]
        if isinstance(keys, SessionKeys):
            names += [keys.messages(3), keys.staging("step")]
        assert {key_slot(one) for one in names} == {key_slot(name.encode())}
        assert len(set(names)) == len(names)


@given(GOOD_IDS, GOOD_IDS)
def test_two_ids_share_no_key(one: str, other: str) -> None:
    if one == other:
        return
    mine, theirs = StreamKeys("p:", one), StreamKeys("p:", other)
    assert not {getattr(mine, slot) for slot in mine.__slots__} & {getattr(theirs, slot) for slot in theirs.__slots__}


@given(GOOD_IDS)
def test_good_ids_are_taken_as_they_are(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize("name", ["x" * 512, "é" * 256, "😀" * 128, "a b", ":", "*", "?[]", "../..", "0"])
def test_printable_ids_up_to_512_bytes_are_ids(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 513, "é" * 257, "😀" * 129, "a{", "}a", "{a}", "a\nb", "a\r\nb", "\t", "\x00", "\x7f", "\u200b",
     "\ud800", "\u2028", None, 5, b"a", ["a"]],
    ids=lambda name: ascii(name)[:20],
)  # fmt: skip
def test_anything_else_is_no_id(name: Any) -> None:
    with pytest.raises(InvalidIdError) as caught:
        check_id(name, "stream_id")
    assert caught.value.code == "invalid_id"
    assert str(caught.value).startswith("stream_id ")
    assert caught.value.hint
    with pytest.raises(InvalidIdError):
        StreamKeys("p:", name)


@pytest.mark.parametrize("prefix", ["a{", "}", "a\n", "\x00", None, 5, b"a"], ids=ascii)
def test_a_prefix_has_no_braces_and_no_control_characters(prefix: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        check_prefix(prefix)


def test_the_index_of_usage_has_its_shards() -> None:
    names = {usage_index("helix", shard) for shard in range(INDEX_SHARDS)}
    assert len(names) == INDEX_SHARDS == 64
    assert usage_index("helix", 7) == b"helix:usage:sessions:{07}"
    assert len({index_shard(f"session-{n}") for n in range(5000)}) == 64
