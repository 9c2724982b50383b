"""Merging in Python says what the scripts do, and staged changes survive their line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.errors import MalformedStateError, PatchError
from helix_fast.state.merge import Merging, as_staged_changes, changes_of, compute, read_staged_line, staged_line
from helix_fast.state.schema import MergeChanges, StagedChanges

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.none() | st.dictionaries(st.text(max_size=4), JSON, max_size=4),
    names=st.lists(st.text(max_size=4), max_size=3, unique=True),
    call=st.text(min_size=1, max_size=5),
    at=st.integers(0, 2**53 - 1),
    path=st.text(max_size=5),
)
def test_staged_changes_survive_their_line(
    values: dict[str, Any] | None, names: list[str], call: str, at: int, path: str
) -> None:
    patches = [{"op": "add", "path": path, "value": names}]
    staged = StagedChanges(call, patches, values, at, tuple(names), tuple(names) if values is not None else ())
    assert read_staged_line(staged_line(as_staged_changes(staged)), "key") == staged


@given(st.binary(max_size=40) | JSON.map(lambda value: repr(value).encode()))
def test_any_other_line_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedStateError):
        read_staged_line(line, "key")


def test_merging_shares_nothing_with_what_was_merged() -> None:
    values: dict[str, Any] = {"list": [1], "object": {"a": []}}
    merging = Merging({"list": [0]})
    merging.merge(changes_of(values, (), ()))
    merging.custom["list"].append(2)
    merging.custom["object"]["a"].append(2)
    assert values == {"list": [1], "object": {"a": []}}


def test_only_members_that_changed_are_written() -> None:
    custom = {"same": [1], "gone": 1, "changed": 1, "back": 1}
    staged = [
        StagedChanges("a", [], {"back": 2, "changed": 2}, 1, (), ("gone",)),
        StagedChanges("b", [{"op": "replace", "path": "/back", "value": 1}], None, 2),
    ]
    changes, warnings = compute(custom, staged)
    assert changes == [("delete", "gone", b""), ("replace", "changed", b"2")]
    assert len(warnings) == 1


def test_a_patch_that_fails_ends_the_whole_computation() -> None:
    staged = [StagedChanges("a", [], {"x": 1}, 1), StagedChanges("b", [{"op": "remove", "path": "/y"}], None, 2)]
    with pytest.raises(PatchError):
        compute({}, staged)


def test_an_overwritten_extension_is_warned_of_and_two_extensions_are_not() -> None:
    merging = Merging({})
    merging.merge(changes_of({"list": [1], "both": [1]}, (), ()), "a")
    merging.merge(changes_of({"list": [2], "both": [2]}, ["list"], ()), "b")
    assert merging.custom == {"list": [2], "both": [1, 2]}
    assert merging.warnings == ["list: tool calls 'a' and 'b' set it to different values; the later one stands"]


def test_merge_changes_may_be_given_whole() -> None:
    given = StagedChanges("t", [], MergeChanges({"a": [1]}, ["a"], ["b"]), 1)  # type: ignore[arg-type]
    assert as_staged_changes(given) == StagedChanges("t", [], {"a": [1]}, 1, ["a"], ["b"])
