"""HelixConversationStore: conversations of pydantic-ai, each message stored once, each save one script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter
from redis.asyncio import Redis, RedisCluster

from helix_fast import arguments
from helix_fast.connect import Helix
from helix_fast.errors import InvalidIdError, MalformedStateError
from helix_fast.integrations.owned import OwnedHelix
from helix_fast.keys import ConversationKeys
from helix_fast.lua import Argument, script

Self = TypeVar("Self", bound="HelixConversationStore")
_PRODUCT: Final = "integrations/pydantic_ai"
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 2_000  # entries of a history in one reply
_LIST_PAGE: Final = 500  # records
_records: Final = TypeAdapter(ConversationRecord)


class HelixConversationStore(ConversationStore):
    """A ``ConversationStore`` on Redis or Valkey: one server, Sentinel or a cluster.

    A save is a compare-and-set on the revision, in one script with the new entries; repeated after a lost reply it
    finds itself, so that a writer never conflicts with its own save. A history is read in one round trip. Forks share
    their entries; ``delete`` deletes the entries that no other conversation uses.

    Entries are found by their id alone, so all conversations of a ``name`` share a slot of a cluster. To use all of it,
    give groups of conversations that are never forked into each other (of a tenant, say) a name each.

    Args:
        target: a Helix, or what ``connect`` takes: then the store opens it at first use, and ``close`` closes it.
        name: of the group.
        ttl: seconds from its last save until a conversation expires, with all entries that it uses; None or 0: it is
            kept until it is deleted. Use one for all stores of a name.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidArgumentError, InvalidIdError: wrong options.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        *,
        name: str = "all",
        ttl: int | None = None,
        **options: Any,
    ) -> None:
        self._ttl = arguments.ttl_seconds(ttl)
        ConversationKeys("", name)
        self._name = name
        self._helix = OwnedHelix(target, **options)

    async def close(self) -> None:
        """Close the connection if the store has made it. Safe to call twice."""
        await self._helix.close()

    async def __aenter__(self: Self) -> Self:
        await self._helix.get()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record; None where there is none."""
        helix = await self._helix.get()
        keys = ConversationKeys(helix.state.key_prefix, self._name)
        data = await helix.state._requests.command(keys.tag, "HGET", keys.record(conversation_id), "record")
        return None if data is None else _record(data, keys)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> list[ConversationRecord]:
        """Records, the one saved last first."""
        keys = await self._keys()
        found: dict[str, ConversationRecord] = {}
        offset = 0
        while limit is None or len(found) < limit:
            count = _LIST_PAGE if limit is None else min(_LIST_PAGE, limit - len(found))
            page = await self._run("conversation_list", keys, [keys.index, keys.list(scope)], [offset, count])
            for data in page:
                record = _record(data, keys)
                found.setdefault(record.conversation_id, record)  # one saved meanwhile comes twice
            offset += len(page)
            if len(page) < count:
                break
        return list(found.values())

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries, in place of the one with this revision: both or neither."""
        keys = await self._keys()
        refs = dict.fromkeys([*filter(None, [record.head_id]), *record.branches])
        args: list[Argument] = [
            _text(record.conversation_id),
            _text(expected_revision or ""),
            _text(record.revision),
            _records.dump_json(record),
            b"" if record.scope is None else b"s" + _text(record.scope),
            b"".join(_id(ref) + b"\n" for ref in refs),
            _id(record.head_id),
            int(record.updated_at.timestamp() * 1_000_000),
            self._ttl,
            _REMEMBERED_MS,
        ]
        for entry in new_entries:
            message = ModelMessagesTypeAdapter.dump_json([entry.message])[1:-1]
            args += [_id(entry.id), _id(entry.parent_id), _text(entry.kind), message]
        await self._change("conversation_write", keys, record.conversation_id, args)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete the record with this revision, and the entries that no other record's history or branches reach."""
        keys = await self._keys()
        args: list[Argument] = [_text(conversation_id), _text(expected_revision), _REMEMBERED_MS]
        await self._change("conversation_delete", keys, conversation_id, args)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """The entry; LookupError where it is gone."""
        (entry,) = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """The entries up to this one, the first one first: one round trip for each 2 000."""
        keys = await self._keys()
        found: list[tuple[str, str | None, bytes]] = []
        while head_id is not None and (limit is None or len(found) < limit):
            count = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = await self._run("conversation_history", keys, [keys.index], [_id(head_id), count])
            for name, value in zip(page[::2], page[1::2], strict=True):
                if value is None:
                    raise LookupError(f"no entry {_read(name)!r}")
                parent, _kind, message = value.split(b"\n", 2)
                head_id = _read(parent) or None
                found.append((_read(name), head_id, message))
        found.reverse()
        try:
            messages = ModelMessagesTypeAdapter.validate_json(b"[" + b",".join(entry[2] for entry in found) + b"]")
        except ValidationError as error:
            raise MalformedStateError(keys.index.decode(), "message", str(error)) from error
        return [
            ConversationEntry(id=name, parent_id=parent, message=message)
            for (name, parent, _), message in zip(found, messages, strict=True)
        ]

    async def _keys(self) -> ConversationKeys:
        return ConversationKeys((await self._helix.get()).state.key_prefix, self._name)

    async def _run(self, name: str, keys: ConversationKeys, names: list[bytes], args: Sequence[Argument]) -> Any:
        requests = (await self._helix.get()).state._requests
        if requests.topology.clustered:
            names = [*names, keys.never]
        return await requests.run(script(_PRODUCT, name), keys.tag, names, args)

    async def _change(self, name: str, keys: ConversationKeys, conversation_id: str, args: Sequence[Argument]) -> None:
        names = [keys.index, keys.record(conversation_id), keys.operation(os.urandom(9).hex())]
        if await self._run(name, keys, names, args) == b"conflict":
            raise ConversationConflict(conversation_id)


def _record(data: bytes, keys: ConversationKeys) -> ConversationRecord:
    try:
        return _records.validate_json(data)
    except ValidationError as error:
        raise MalformedStateError(keys.index.decode(), "record", str(error)) from error


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _id(entry_id: str | None) -> bytes:
    if entry_id is None:
        return b""
    if not entry_id or "\n" in entry_id:
        raise InvalidIdError(f"an entry's id must be a line of text, not {entry_id!r}")
    return _text(entry_id)


def _read(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
