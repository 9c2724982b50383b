"""RFC 6902: its own examples (appendix A) and every rule of it, from tests/data/json_patch_cases.json."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.errors import PatchError
from helix_fast.state.json_patch import apply_patch

CASES = json.loads((Path(__file__).parents[1] / "data" / "json_patch_cases.json").read_text("utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab~/01-", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("case", CASES, ids=[case["name"][:60] for case in CASES])
def test_case_of_the_specification(case: dict[str, Any]) -> None:
    document, patch = copy.deepcopy(case["doc"]), copy.deepcopy(case["patch"])
    if "error" in case:
        with pytest.raises(PatchError):
            apply_patch(document, patch)
    else:
        # as text: in Python, True == 1
        assert json.dumps(apply_patch(document, patch), sort_keys=True) == json.dumps(case["expected"], sort_keys=True)
    assert json.dumps(document) == json.dumps(case["doc"])
    assert json.dumps(patch) == json.dumps(case["patch"])


def test_error_names_the_operation_that_failed() -> None:
    with pytest.raises(PatchError, match=r"^operation 1: no member 'b'"):
        apply_patch({"a": 1}, [{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/b"}])


@pytest.mark.parametrize("patch", [None, {}, "[]", b"[]", 5, {"op": "remove", "path": "/a"}])
def test_what_is_no_list_is_no_patch(patch: Any) -> None:
    with pytest.raises(PatchError):
        apply_patch({"a": 1}, patch)


def test_result_shares_nothing_with_document_or_patch() -> None:
    document: dict[str, Any] = {"a": {"l": []}}
    value: dict[str, Any] = {"m": []}
    result = apply_patch(document, [{"op": "add", "path": "/b", "value": value}])
    result["a"]["l"].append(1)
    result["b"]["m"].append(1)
    assert document == {"a": {"l": []}}
    assert value == {"m": []}


@given(JSON, JSON)
def test_add_is_undone_by_remove_and_seen_by_test(document: Any, value: Any) -> None:
    wrapped = {"doc": document}
    patch = [
        {"op": "add", "path": "/~0~1 new", "value": value},
        {"op": "test", "path": "/~0~1 new", "value": value},
        {"op": "move", "from": "/~0~1 new", "path": "/other"},
        {"op": "test", "path": "/doc", "value": document},
        {"op": "remove", "path": "/other"},
    ]
    assert apply_patch(wrapped, patch) == wrapped


@given(
    JSON,
    st.lists(
        st.dictionaries(
            st.sampled_from(["op", "path", "from", "value"]),
            JSON | st.sampled_from(["add", "move", "copy", "test", "/a", "/0", ""]),
        )
    ),
)
def test_any_patch_is_applied_or_refused(document: Any, patch: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(document)
    with contextlib.suppress(PatchError):
        json.dumps(apply_patch(document, patch))
    assert document == before
