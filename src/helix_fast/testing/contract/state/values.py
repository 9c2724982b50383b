"""Data comes back as it went in."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import pathlib
import uuid
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helix_fast.interfaces import StateStore
from helix_fast.state.schema import AgentState, MergeChanges, StagedChanges, SubAgentRef
from helix_fast.testing.contract.ids import every_subclass, plain

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    -(2**63) - 1,
    2**64,
    10**60,
    0.1,
    -0.0,
    1e300,
    5e-324,
    1.0,
    "",
    "plain",
    'quote " backslash \\ slash / newline \n tab \t nul \0 bell \x07 del \x7f',
    "日本語 🎉 é e\u0301 \u2028 \u2029 \ufeff",
    "[1,2",
    "]",
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    {"a": []},
    {"a.b": 1, "c/d": 2, "e~f": 3, "g[0]": 4, "{h}": 5, " ": 6, "é": 7, "$": 8, "__proto__": 9, "\n": 10, "\0": 11},
    [None, [None, {"x": None}]],
    {"deep": {"er": {"still": [{"yes": [1, [2, [3]]]}]}}},
]
NAMES = ["k", "", "a.b", "c/d", "e~f", "{x}", "日本", "\n", "\0", "ordinal", "version", "sessionId"]


@dataclasses.dataclass
class Point:
    x: int
    more: Any = None


class Model:
    """A model as pydantic's are: with a method that says what it is in JSON."""

    def __init__(self, n: int) -> None:
        self.n = n

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        assert mode == "json"
        return {"n": self.n}


def exact(value: Any) -> str:
    return repr(value)  # tells 1 from 1.0 and True


@pytest.mark.parametrize("value", VALUES, ids=[repr(value)[:40] for value in VALUES])
async def test_a_value_survives_everywhere(state_store: Any, value: Any) -> None:
    state = AgentState("s", "a", custom_state={"v": value}, messages=[{"v": value}], output=value)
    state.metadata, state.extra = {"v": value}, {"unknown": value}
    await state_store.save_state("s", state)
    checkpoint = await state_store.create_checkpoint("s", metadata={"v": value})
    loaded = [await state_store.load_state("s"), (await state_store.get_checkpoint("s", checkpoint.id)).state]
    await state_store.save_state("s", AgentState("s", "a"))
    loaded.append(await state_store.restore_checkpoint("s", checkpoint.id))
    loaded.append(await state_store.load_state("s"))
    for each in loaded:
        assert exact([each.custom_state, each.messages, each.output, each.metadata, each.extra]) == exact(
            [{"v": value}, [{"v": value}], value, {"v": value}, {"unknown": value}]
        )
    (listed,) = (await state_store.list_checkpoints("s")).items
    assert exact(listed.metadata) == exact({"v": value})


@pytest.mark.parametrize("value", VALUES, ids=[repr(value)[:40] for value in VALUES])
async def test_a_value_survives_merging_and_staging(state_store: Any, value: Any) -> None:
    await state_store.create_session("s", agent_type="a")
    await state_store.merge_custom_state("s", MergeChanges({"merged": value, "list": [value]}))
    await state_store.merge_custom_state("s", MergeChanges({"list": [value]}))
    staged = StagedChanges("t", [], {"staged": value, "list": [value]}, 1)
    await state_store.stage_changes("s", "step", staged)
    assert exact(await state_store.get_staged_changes("s", "step")) == exact([staged])
    await state_store.promote_staging("s", "step")
    custom = (await state_store.load_state("s")).custom_state
    assert exact(custom["merged"]) == exact(custom["staged"]) == exact(value)
    assert exact(custom["list"]) == exact([value, value, value])
    patch = [{"op": "add", "path": "/patched", "value": value}, {"op": "test", "path": "/merged", "value": value}]
    await state_store.stage_changes("s", "step", StagedChanges("t", patch, None, 1))
    await state_store.promote_staging("s", "step")
    patched = (await state_store.load_state("s")).custom_state
    assert exact(sorted(patched.items())) == exact(sorted({**custom, "patched": value}.items()))


async def test_any_name_is_a_name(state_store: Any) -> None:
    custom = {name: [name] for name in NAMES}
    await state_store.create_session("s", agent_type="a", initial_state=custom, metadata=custom)
    await state_store.merge_custom_state("s", MergeChanges({name: ["more"] for name in NAMES}))
    state = await state_store.load_state("s")
    assert state.custom_state == {name: [name, "more"] for name in NAMES}
    assert state.metadata == custom
    await state_store.merge_custom_state("s", MergeChanges(deletes=NAMES[1:]))
    assert (await state_store.load_state("s")).custom_state == {"k": ["k", "more"]}


async def test_texts_of_the_state_itself_survive(state_store: Any) -> None:
    text = 'x "y" \\ \n \0 日本 🎉 |,:'
    state = AgentState("s", text, text, error=text, parent_session_id=text)
    await state_store.save_state("s", state)
    checkpoint = await state_store.create_checkpoint("s")
    for found in (await state_store.load_state("s"), (await state_store.get_checkpoint("s", checkpoint.id)).state):
        assert [found.agent_type, found.status, found.error, found.parent_session_id] == [text] * 4
    assert checkpoint.status == text
    await state_store.save_state("s", AgentState("s", "a", error=""))
    assert (await state_store.load_state("s")).error == ""


async def test_what_json_does_not_have_comes_back_as_documented(state_store: Any) -> None:
    given: dict[str, Any] = {"bytes": b"ab", "tuple": (1, 2), "date": datetime.date(2024, 5, 6), "set": {1}}
    given |= {"time": datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.timezone.utc), "id": uuid.UUID(int=1)}
    given |= {"decimal": decimal.Decimal("1.50"), "object": Point(1, [Point(2)]), "model": Model(1)}
    given |= {"mapping": MappingProxyType({"a": Model(2)}), "path": pathlib.PurePosixPath("/a/b")}
    await state_store.create_session("s", agent_type="a", initial_state=given)
    await state_store.append_messages("s", [Model(3)])
    state = await state_store.load_state("s")
    expected: dict[str, Any] = {"bytes": "YWI=", "tuple": [1, 2], "date": "2024-05-06", "set": [1]}
    expected |= {"time": "2024-05-06T07:08:00Z", "id": "00000000-0000-0000-0000-000000000001"}
    expected |= {"decimal": "1.50", "mapping": {"a": {"n": 2}}, "model": {"n": 1}, "path": "/a/b"}
    expected |= {"object": {"x": 1, "more": [{"x": 2, "more": None}]}}
    assert state.custom_state == expected
    assert state.messages == [{"n": 3}]


async def test_thousands_of_members_and_megabytes_survive(state_store: Any) -> None:
    custom = {f"key {n}": n for n in range(10_000)}
    state = AgentState("s", "a", custom_state=custom, messages=[{"content": "x" * (3 << 20)}])
    await state_store.save_state("s", state)
    checkpoint = await state_store.create_checkpoint("s")
    await state_store.merge_custom_state("s", MergeChanges(deletes=list(custom)))
    assert (await state_store.load_state("s")).custom_state == {}
    restored = await state_store.restore_checkpoint("s", checkpoint.id)
    assert (restored.custom_state, restored.messages) == (custom, state.messages)
    assert (await state_store.load_state("s")).custom_state == custom


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@settings(  # a busy machine is no finding
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(custom=st.dictionaries(st.text(), JSON, max_size=4), said=st.lists(st.dictionaries(st.text(), JSON, max_size=3)))
async def test_any_json_survives(state_store: Any, custom: dict[str, Any], said: list[Any]) -> None:
    await state_store.save_state("s", AgentState("s", "a", custom_state=custom, messages=said))
    loaded = await state_store.load_state("s")
    assert exact(sorted(loaded.custom_state.items())) == exact(sorted(custom.items()))
    assert exact(loaded.messages) == exact(said)


@every_subclass
async def test_a_str_of_a_subclass_as_session_id_is_its_text(state_store: StateStore, name: str) -> None:
    await state_store.create_session(name, agent_type=name, initial_state={"by": name})
    state = await state_store.load_state(plain(name))
    assert state is not None
    assert (state.session_id, state.agent_type, state.custom_state) == (plain(name), plain(name), {"by": plain(name)})
    await state_store.append_messages(name, [{"role": "user", "content": name}])
    await state_store.update_status(name, "running")
    await state_store.stage_changes(name, name, {"toolCallId": name, "patches": []})
    await state_store.create_checkpoint(name, metadata={"by": name})
    loaded = await state_store.load_state(plain(name))
    assert loaded is not None
    assert [message["content"] for message in loaded.messages] == [plain(name)]
    assert await state_store.delete(name)
    assert not await state_store.exists(plain(name))


async def test_plain_values_are_merged_too(state_store: Any) -> None:
    await state_store.create_session("s", agent_type="a", initial_state={"notes": [1], "k": 1})
    await state_store.merge_custom_state("s", {"notes": [2], "k": 2, "new": {}})
    await state_store.merge_custom_state("s", {"values": {"k": 3}, "deletes": ["new"]})
    assert (await state_store.load_state("s")).custom_state == {"notes": [1, 2], "k": 3}
    await state_store.merge_custom_state("s", {"values": "a name as any other", "k": 4})
    custom = (await state_store.load_state("s")).custom_state
    assert custom == {"notes": [1, 2], "k": 4, "values": "a name as any other"}
    await state_store.merge_custom_state("s", {})
    assert (await state_store.load_state("s")).custom_state == custom


async def test_a_state_as_a_dict_is_saved_as_it_is(state_store: Any) -> None:
    state = AgentState("s", "a", step_count=2, custom_state={"k": [1]}, messages=[{"n": 1}], extra={"new": 1})
    state.sub_agent_refs = [SubAgentRef("q", "w", extra={"newer": 1})]
    await state_store.save_state("s", state.to_dict())
    loaded = await state_store.load_state("s")
    state.version, state.created_at, state.updated_at = 1, loaded.created_at, loaded.updated_at
    assert loaded == state
