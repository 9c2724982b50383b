"""Presence without a server: which publishers are polled for, and what a count, or none, means for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helix_fast import codec
from helix_fast.errors import StoreConnectionError, StoreResponseError
from helix_fast.testing.waiting import until
from helix_fast.transport.channels import StreamChannel
from helix_fast.transport.presence import Presence


class Publisher:
    def __init__(self, presence: Presence, stream_id: str) -> None:
        self.stream_id = stream_id
        self.subscribers = codec.RemoteSubscribers(presence, stream_id.encode())
        self.subscribers.present = False
        self.silent = True
        self.notified = 0

    def notify_catch_up(self) -> None:
        self.notified += 1


class Servers:
    """Two servers, by the first letter of a tag, which write down what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, Callable[[Any], None]]] = []
        self.presence = Presence(lambda *request: self.asked.append(request), lambda tag: tag[0])
        self.presence.poll_seconds = 0.01

    def publishers(self, *names: str) -> list[Publisher]:
        return [Publisher(self.presence, name) for name in names]

    async def poll(self, publishers: list[Publisher], requests: int = 1) -> None:
        before = len(self.asked)
        for publisher in publishers:
            self.presence.poll_later(publisher)
        await until(lambda: len(self.asked) == before + requests)

    def subscribe(self, channel: bytes, *, counted: bool) -> None:
        self.presence.local[channel] = cast("StreamChannel", SimpleNamespace(counted=counted))


def counts(**numbers: int) -> list[Any]:
    return [part for name, number in numbers.items() for part in (name.encode(), number)]


async def test_all_that_are_silent_are_polled_for_at_once() -> None:
    servers = Servers()
    silent = servers.publishers("a1", "a2", "a3", "a4", "a5")
    await servers.poll(silent)
    tag, frame, answer = servers.asked[0]
    assert (tag, frame) == ("a1", codec.frame_command([b"PUBSUB", b"NUMSUB", b"a1", b"a2", b"a3", b"a4", b"a5"]))
    assert not any(publisher.silent for publisher in silent)
    for name, counted in ((b"a2", True), (b"a3", True), (b"a4", False)):
        servers.subscribe(name, counted=counted)
    answer(counts(a1=0, a2=1, a3=2, a4=1, a5=1))
    assert [publisher.notified for publisher in silent] == [0, 0, 1, 1, 1]
    assert [publisher.subscribers.present for publisher in silent] == [False, False, True, True, True]


async def test_each_server_is_asked_for_its_own_and_by_its_own_command() -> None:
    servers = Servers()
    servers.presence.sharded = True
    await servers.poll(servers.publishers("a", "b", "a2"), requests=2)
    assert [(tag, frame) for tag, frame, _answer in servers.asked] == [
        ("a", codec.frame_command([b"PUBSUB", b"SHARDNUMSUB", b"a", b"a2"])),
        ("b", codec.frame_command([b"PUBSUB", b"SHARDNUMSUB", b"b"])),
    ]


@pytest.mark.parametrize(
    ("reply", "unreliable"),
    [
        (counts(a=0), False),
        (counts(a=0, b=0, c=0), False),
        ([b"a", 0, b"b"], False),
        (StoreConnectionError("lost"), False),
        (StoreResponseError("NOPERM no right to it"), True),
        (StoreResponseError("ERR unknown command"), True),
    ],
)
async def test_without_a_count_of_each_all_are_taken_to_have_subscribers(reply: Any, unreliable: bool) -> None:
    servers = Servers()
    silent = servers.publishers("a", "aa")
    await servers.poll(silent)
    servers.asked[0][2](reply)
    assert [(publisher.notified, publisher.subscribers.present) for publisher in silent] == [(1, True)] * 2
    assert servers.presence.counts_unreliable == unreliable
    if unreliable:
        again = servers.publishers("a")
        servers.presence.poll_later(again[0])
        await until(lambda: again[0].notified == 1)
        assert len(servers.asked) == 1


async def test_a_count_from_about_the_time_when_this_process_was_counted_means_nothing() -> None:
    servers = Servers()
    silent = servers.publishers("a")
    await servers.poll(silent)
    servers.presence.counted()
    servers.asked[0][2](counts(a=0))
    assert silent[0].subscribers.present


async def test_after_a_missed_announcement_all_without_subscribers_are_polled_for_at_once() -> None:
    servers = Servers()
    servers.presence.poll_seconds = 3600
    known, unknown, silent = servers.publishers("a1", "a2", "a3")
    known.subscribers.present = True
    servers.presence.poll_later(silent)
    servers.presence.poll_now([known, unknown])
    assert [frame for _tag, frame, _answer in servers.asked] == [
        codec.frame_command([b"PUBSUB", b"NUMSUB", b"a3", b"a2"])
    ]


async def test_only_readers_of_other_processes_are_remote_and_only_the_first_has_the_log_read() -> None:
    servers = Servers()
    (publisher,) = servers.publishers("a")
    servers.presence.remote_joined(publisher, servers.presence.name)
    assert (publisher.subscribers.present, publisher.notified) == (False, 0)
    for _ in range(2):
        servers.presence.remote_joined(publisher, b"another")
    assert (publisher.subscribers.present, publisher.notified) == (True, 1)


async def test_on_closing_the_silent_have_their_subscribers_read_the_log() -> None:
    servers = Servers()
    (publisher,) = servers.publishers("a")
    servers.presence.poll_later(publisher)
    await servers.presence.close()
    await asyncio.sleep(0.03)
    assert (publisher.notified, servers.asked) == (1, [])
