"""Totals as they are stored: what an entry counts for, as JSON that loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helix_fast import codec
from helix_fast.usage.totals import FORMAT, MAX_NAMES, dump, load

ENTRIES: list[dict[str, Any]] = [
    {"kind": "tokens", "model": "é", "timestamp": 7, "tokens": {"prompt": 2**70, "completion": 9, "reasoning": 4}},
    {"kind": "tokens", "model": "é", "timestamp": 5, "tokens": {"prompt": 2, "completion": 1, "reasoning": 4}},
    {"kind": "tokens", "tokens": {"total": 3, "cached": 1}},
    {"kind": "tokens", "model": "é", "tokens": {"total": 1}, "cost": 0.1},
    {"kind": "tokens", "model": "é", "tokens": {"total": 1}, "cost": 2},
    {"kind": "tool", "toolName": "search", "durationMs": 0.1, "success": True},
    {"kind": "tool", "toolName": "search", "durationMs": 0.2, "error": "no"},
    {"kind": "subagent", "agentType": "a", "subSessionId": "child", "durationMs": 3},
    {"kind": "custom", "type": "cost", "value": -1.5},
    {"kind": "custom", "type": "cost", "value": -(2**70)},
    {"kind": "embedding"},
    {"kind": "tool", "durationMs": -1},
]  # fmt: skip
TIMES = 50
# What they add up to in format 3, to be changed together with the format and with nothing else: a store that knows
# another meaning of the sums, or of an entry, must not take these for its own.
STORED = {
    b"3": '[550,50,5,7,[{"é":[200,59029581035870565171300,500,400,0,59029581035870565172100,200,0,50,100,2,2,50'
    ',4.999999999999998,2.0539125955565396e-15,0.1,0.1],"unknown":[50,50,0,0,50,150,0,50,0,0,null,null,0,'
    '0.0,0.0,null,null]},{"search":[100,50,50,0,0,0,0,0,0,0,null,null,100,14.999999999999975,2.5701663020'
    '072374e-14,0.1,0.2]},{"a":[50,50,0,0,0,0,0,0,50,150,3,3,0,0.0,0.0,null,null]},{"cost":[100,0,0,0,0,0'
    ',0,0,50,-59029581035870565171200,-1180591620717411303424,-1180591620717411303424,50,-75.0,0.0,-1.5,-'
    '1.5]},{"embedding":[50,0,0,0,0,0,0,0,0,0,null,null,0,0.0,0.0,null,null]}],["child"]]'
}  # fmt: skip


def rollup_of(entries: list[dict[str, Any]]) -> codec.Rollup:
    rollup = codec.Rollup()
    rollup.add([json.dumps(entry).encode() for entry in entries])
    return rollup


def test_format_is_raised_with_every_change_of_what_is_stored() -> None:
    sums = dump(rollup_of(ENTRIES * TIMES))
    assert sums is not None
    assert sums.decode() == STORED[FORMAT]


def test_what_is_stored_comes_back_to_the_last_digit() -> None:
    rollup = rollup_of(ENTRIES * TIMES)
    sums = dump(rollup)
    assert sums is not None
    back = load(sums, len(ENTRIES) * TIMES)
    assert back is not None
    assert repr(back.export()) == repr(rollup.export())


def test_sums_of_another_number_of_entries_are_not_taken() -> None:
    sums = dump(rollup_of(ENTRIES * TIMES))
    assert sums is not None
    assert load(sums, len(ENTRIES) * TIMES - 1) is None


@pytest.mark.parametrize(("names", "entries", "stored"), [
    (50, 1000, True), (51, 1000, False), (MAX_NAMES, 40_000, True), (MAX_NAMES + 1, 40_000, False),
])  # fmt: skip
def test_sums_of_many_names_are_not_stored(names: int, entries: int, stored: bool) -> None:
    rollup = rollup_of([{"kind": "tool", "toolName": f"tool-{n % names}"} for n in range(entries)])
    assert (dump(rollup) is not None) is stored


def test_integers_that_python_does_not_write_as_text_are_not_stored() -> None:
    rollup = rollup_of([{"kind": "tokens", "tokens": {"prompt": 10**4299}}] * 9)
    rollup.add([b"{}"] * 11)
    assert dump(rollup) is not None
    rollup.merge(rollup)
    assert dump(rollup) is None
