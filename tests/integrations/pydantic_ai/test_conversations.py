"""HelixConversationStore beside pydantic-ai's own store in memory: each primitive must do the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.conversation_store")

from pydantic_ai import Agent, BinaryContent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ThinkingPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage, RunUsage

from helix_fast import Helix, InvalidIdError, MalformedStateError, connect
from helix_fast.integrations.pydantic_ai import HelixConversationStore
from helix_fast.keys import ConversationKeys
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy


class Mirror(ConversationStore):
    """Two stores that are told the same, and must say the same."""

    def __init__(self, ours: ConversationStore) -> None:
        self.ours = ours
        self.theirs = InMemoryConversationStore()
        self.seen: set[str] = set()

    async def both(self, method: str, *args: Any, **options: Any) -> Any:
        outcomes = [await outcome(getattr(store, method)(*args, **options)) for store in (self.theirs, self.ours)]
        assert outcomes[1] == outcomes[0], method
        value, error = outcomes[0]
        if error is ConversationConflict:
            raise ConversationConflict(str(args))
        if error is not None:
            raise error(method)
        return value

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        return await self.both("read_record", conversation_id)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        return await self.both("read_records", scope=scope, limit=limit)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        self.seen |= {entry.id for entry in new_entries}
        await self.both("write_record", record, new_entries=new_entries, expected_revision=expected_revision)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        await self.both("delete_record", conversation_id, expected_revision=expected_revision)
        for entry_id in self.seen:
            await outcome(self.both("read_entry", entry_id))

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        return await self.both("read_entry", entry_id)

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        return await self.both("read_history", head_id, limit=limit)


async def outcome(call: Awaitable[Any]) -> tuple[Any, type[Exception] | None]:
    try:
        value = await call
    except ConversationConflict:
        return None, ConversationConflict
    except LookupError:
        return None, LookupError
    return list(value) if isinstance(value, (list, tuple)) else value, None


@pytest.fixture
async def store(helix: Helix) -> HelixConversationStore:
    return HelixConversationStore(helix)


@pytest.fixture
async def mirror(store: HelixConversationStore) -> Mirror:
    return Mirror(store)


THEN = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)


def turn(text: str) -> list[Any]:
    return [
        ModelRequest(parts=[UserPromptPart(text, timestamp=THEN)]),
        ModelResponse(parts=[TextPart(f"to {text}")], timestamp=THEN),
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_random_histories_are_those_of_the_store_in_memory(mirror: Mirror, seed: int) -> None:
    choice = random.Random(seed)
    known: dict[str, list[Conversation]] = {}
    for step in range(120):
        name = choice.choice("abcd")
        scope = choice.choice([None, "us", "them"])
        copies = known.setdefault(name, [])
        act = choice.choice(["save", "save", "save", "load", "stale", "rewrite", "branch", "fork", "list", "delete"])
        try:
            if act in ("save", "load"):
                loaded = await mirror.load(name, limit=choice.choice([None, None, 3]))
                conversation = loaded or Conversation(conversation_id=name)
                conversation.messages.extend(turn(f"{step}"))
                copies.append(conversation)
                await mirror.save(conversation, scope=scope if loaded is None else None)
            elif act == "stale" and copies:
                await mirror.save(choice.choice(copies))
            elif act == "rewrite" and copies:
                loaded = await mirror.load(name)
                if loaded is None:
                    continue
                messages = [*loaded.messages[: choice.randint(0, len(loaded.messages))], *turn(f"rewritten {step}")]
                await mirror.save(Conversation(conversation_id=name, messages=messages, revision=loaded.revision))
            elif act == "branch":
                loaded = await mirror.load(name)
                if loaded is not None:
                    kept = choice.randint(0, len(loaded.messages))
                    back = await mirror.branch(name, at=kept, expected_revision=loaded.revision)
                    back.messages.extend(turn(f"branch {step}"))
                    await mirror.save(back)
            elif act == "fork":
                await mirror.fork(name, new_conversation_id=choice.choice("abcdef"), scope=scope)
            elif act == "list":
                await mirror.list_conversations(scope=scope, limit=choice.choice([None, 0, 1, 3]))
            elif act == "delete":
                await mirror.delete(name, scope=scope)
        except UserError:
            continue
    for name in "abcdef":
        record = await mirror.read_record(name)
        if record is not None:
            for head in (record.head_id, *record.branches):
                await mirror.read_history(head)
            await mirror.delete(name)
    assert await mirror.list_conversations() == []


async def test_nothing_is_left_behind_when_all_is_deleted(server_url: str) -> None:
    async with connect(server_url) as helix:
        store = HelixConversationStore(helix)
        await store.save(Conversation(conversation_id="a", messages=[*turn("1"), *turn("2")]), scope="us")
        await store.fork("a", at=2, new_conversation_id="b")
        loaded = await store.load("a")
        assert loaded is not None
        await store.branch("a", at=1, expected_revision=loaded.revision)
        await store.delete("a")
        assert (await store.load("b")).messages == turn("1")  # type: ignore[union-attr]
        await store.delete("b")
        keys = await helix.state._requests.command("", "KEYS", "*")
        assert {key.split(b":")[3] for key in keys} <= {b"operation"}


async def test_every_kind_of_message_comes_back_equal(store: HelixConversationStore) -> None:
    messages = [
        ModelRequest(
            parts=[
                UserPromptPart(
                    ['Löök\n"', BinaryContent(data=bytes(range(256)), media_type="application/octet-stream")]
                )
            ],
            instructions="be kind",
        ),
        ModelResponse(
            parts=[ThinkingPart("hm", signature="x"), ToolCallPart("f", {"a": [1.5, None]}, tool_call_id="c1")],
            usage=RequestUsage(input_tokens=5, output_tokens=7),
            provider_response_id="resp_1",
        ),
    ]
    conversation = Conversation(
        conversation_id="a",
        messages=messages,
        usage=RunUsage(requests=1, input_tokens=5, details={"x": 2}),
        deferred_tool_requests=DeferredToolRequests(calls=[ToolCallPart("f", {"a": 1}, tool_call_id="c1")]),
    )
    await store.save(conversation)
    loaded = await store.load("a")
    assert loaded is not None
    assert loaded.messages == messages
    assert loaded.usage == conversation.usage
    assert loaded.deferred_tool_requests == conversation.deferred_tool_requests


async def test_an_agent_goes_on_where_it_was(store: HelixConversationStore) -> None:
    agent = Agent(TestModel(custom_output_text="hi"))
    result = await agent.run("Hello", conversation=Conversation(conversation_id="chat-1"))
    await store.save(result, scope="user")
    conversation = await store.load("chat-1", scope="user")
    assert conversation is not None
    assert conversation.messages == result.all_messages()
    again = await agent.run("And?", conversation=conversation)
    assert len(await store.save(again)) == 2
    assert await store.load("chat-1", scope="another") is None


async def test_another_worker_goes_on_with_a_conversation_here_and_not_with_their_store(server_url: str) -> None:
    """pydantic-ai's only store is in the memory of one process: another worker begins anew."""
    agent, lengths = Agent(TestModel(custom_output_text="Hi")), []
    async with connect(server_url) as one, connect(server_url) as two:
        pairs: list[tuple[ConversationStore, ConversationStore]] = [
            (InMemoryConversationStore(), InMemoryConversationStore()),
            (HelixConversationStore(one), HelixConversationStore(two)),
        ]
        for first, second in pairs:
            await first.save(await agent.run("Hello", conversation=Conversation(conversation_id="c")))
            found = await second.load("c")
            lengths.append(None if found is None else len(found.messages))
    assert lengths == [None, 2]


async def test_of_many_writers_one_wins(store: HelixConversationStore) -> None:
    await store.save(Conversation(conversation_id="a", messages=turn("1")))
    copies = [await store.load("a") for _ in range(8)]
    for number, copy in enumerate(copies):
        assert copy is not None
        copy.messages.extend(turn(str(number)))
    done = await asyncio.gather(*(store.save(copy) for copy in copies if copy is not None), return_exceptions=True)
    assert sum(isinstance(each, ConversationConflict) for each in done) == 7
    assert len((await store.load("a")).messages) == 4  # type: ignore[union-attr]


@pytest.mark.faults
@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_a_save_or_delete_whose_reply_is_lost_succeeds_once(
    fault_proxy: FaultProxy, server_url: str, lost: str
) -> None:
    """A store that compares revisions alone would meet its own, and raise ConversationConflict."""
    async with connect(fault_proxy.url) as helix, connect(server_url) as direct:
        store, other = HelixConversationStore(helix), HelixConversationStore(direct)
        conversation = Conversation(conversation_id="a", messages=turn("1"))
        await store.save(conversation)
        conversation.messages.extend(turn("2"))
        record = await store.read_record("a")
        assert record is not None
        cut = fault_proxy.cut_after_reply_bytes if lost == "reply" else fault_proxy.cut_after_request_bytes
        entry = ConversationEntry(parent_id=record.head_id, message=turn("2")[0])
        updated = ConversationRecord(conversation_id="a", head_id=entry.id)
        cut(0)
        await store.write_record(updated, new_entries=[entry], expected_revision=record.revision)
        assert await other.read_record("a") == updated
        assert [each.message for each in await other.read_history(entry.id)] == [*turn("1"), turn("2")[0]]
        cut(0)
        await store.delete_record("a", expected_revision=updated.revision)
        assert await other.read_record("a") is None
        with pytest.raises(ConversationConflict):
            await store.delete_record("a", expected_revision=updated.revision)


@pytest.mark.faults
async def test_a_save_whose_reply_is_lost_does_not_undo_a_later_one(fault_proxy: FaultProxy, server_url: str) -> None:
    async with connect(fault_proxy.url) as helix, connect(server_url) as direct:
        store, other = HelixConversationStore(helix), HelixConversationStore(direct)
        await store.read_record("a")
        first = ConversationRecord(conversation_id="a", head_id=None)
        fault_proxy.drop_replies()
        writing = asyncio.ensure_future(store.write_record(first, expected_revision=None))
        await eventually(lambda: _is_there(other))
        await other.delete("a")
        fault_proxy.heal()
        fault_proxy.cut_all()
        await writing
        assert await other.read_record("a") is None


async def _is_there(store: HelixConversationStore) -> bool:
    return await store.read_record("a") is not None


async def test_a_conversation_expires_with_all_that_only_it_uses(server_url: str) -> None:
    async with connect(server_url) as helix:
        store = HelixConversationStore(helix, ttl=1000)
        await store.save(Conversation(conversation_id="a", messages=[*turn("1"), *turn("2")]), scope="us")
        command = helix.state._requests.command
        keys = list(await command("", "KEYS", "*"))
        assert len(keys) == 8  # record, index, scope, four entries, operation
        assert all([0 < await command("", "TTL", key) <= 1000 for key in keys])
        await command("", "DEL", ConversationKeys("helix:", "all").record("a"))
        assert await store.list_conversations() == []
        assert await store.list_conversations(scope="us") == []


async def test_a_page_of_history_is_one_round_trip(server_url: str) -> None:
    async with connect(server_url) as helix:
        store = HelixConversationStore(helix)
        conversation = Conversation(conversation_id="a", messages=[each for n in range(500) for each in turn(str(n))])
        await store.save(conversation)
        record = await store.read_record("a")
        assert record is not None
        before = (await helix.state._requests.command("", "INFO", "stats")).split(b"total_commands_processed:")[1]
        history = await store.read_history(record.head_id)
        after = (await helix.state._requests.command("", "INFO", "stats")).split(b"total_commands_processed:")[1]
        assert [entry.message for entry in history] == conversation.messages
        in_script = len(history)
        assert int(after.split()[0]) - int(before.split()[0]) <= in_script + 3


async def test_a_long_history_and_a_long_list_are_read_in_pages(
    store: HelixConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helix_fast.integrations.pydantic_ai import conversations

    monkeypatch.setattr(conversations, "_PAGE", 3)
    monkeypatch.setattr(conversations, "_LIST_PAGE", 2)
    for name in "abcde":
        await store.save(Conversation(conversation_id=name, messages=[*turn("1"), *turn("2")]))
    assert (await store.load("a")).messages == [*turn("1"), *turn("2")]  # type: ignore[union-attr]
    assert [record.conversation_id for record in await store.list_conversations()] == list("edcba")
    assert [record.conversation_id for record in await store.list_conversations(limit=3)] == list("edc")


async def test_ids_and_scopes_may_be_any_text(store: HelixConversationStore) -> None:
    for name in ("a{b}c", "line\nbreak", "é\U0001f600", " "):
        await store.save(Conversation(conversation_id=name, messages=turn(name)), scope=name)
        loaded = await store.load(name, scope=name)
        assert loaded is not None
        assert loaded.messages == turn(name)
        (record,) = await store.list_conversations(scope=name)
        assert (record.conversation_id, record.scope) == (name, name)
    with pytest.raises(InvalidIdError):
        await store.write_record(ConversationRecord(conversation_id="x", head_id="two\nlines"), expected_revision=None)


async def test_groups_do_not_see_each_other(helix: Helix) -> None:
    one, two = (HelixConversationStore(helix, name=name) for name in ("one", "two"))
    await one.save(Conversation(conversation_id="a", messages=turn("1")))
    assert await two.load("a") is None
    assert await two.list_conversations() == []


async def test_a_record_of_another_format_is_named(helix: Helix, store: HelixConversationStore) -> None:
    keys = ConversationKeys(helix.state.key_prefix, "all")
    command = helix.state._requests.command
    await command(keys.tag, "HSET", keys.record("a"), "record", '{"format_version":2}', "revision", "r")
    with pytest.raises(MalformedStateError, match="format_version"):
        await store.load("a")


async def test_a_store_of_its_own_connection(server_url: str) -> None:
    async with HelixConversationStore(server_url, key_prefix="mine:") as store:
        await store.save(Conversation(conversation_id="a", messages=turn("1")))
    lazy = HelixConversationStore(server_url, key_prefix="mine:")
    first, second = await asyncio.gather(lazy.load("a"), lazy.load("a"))
    assert first is not None
    assert second is not None
    assert first.messages == second.messages == turn("1")
    await lazy.close()
    await lazy.close()


async def test_saved_last_comes_first(mirror: Mirror) -> None:
    records = [ConversationRecord(conversation_id=name, head_id=None, scope="s") for name in "abc"]
    for place, record in enumerate(records):
        record.updated_at += timedelta(microseconds=(7 * place) % 5)
        await mirror.write_record(record, expected_revision=None)
    assert len(await mirror.read_records(scope="s")) == 3
    assert await mirror.read_records(scope="t") == []
