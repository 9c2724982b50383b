"""The other clients' turns, and the cluster: that they do what the table says, and that one that fails costs no run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from benchmarks.measure import TINY, Size, WrongRunError
from benchmarks.open_memory import measure_memory
from benchmarks.peers.model import OURS, Arena, Entrant, Load, Turn
from benchmarks.peers.relay import RELAY, RESUME
from benchmarks.peers.turns import open_arena, take_load
from benchmarks.peers.writes import TCP, WRITES
from benchmarks.results import Peer
from benchmarks.scaling import measure_scaling

pytestmark = pytest.mark.slow


def steady(rate: float, error: Exception | None = None) -> Entrant:
    @contextlib.asynccontextmanager
    async def enter(_arena: Arena) -> AsyncIterator[Turn]:
        async def turn(_prefix: str) -> float:
            if error is not None:
                raise error
            return rate

        yield turn

    return Entrant(OURS if rate == 300 else f"at {rate:g}", "helix_fast", enter)


async def take(load: Load) -> tuple[list[Peer], list[str]]:
    told: list[str] = []
    async with open_arena(Size(TINY)) as arena:
        return await take_load(load, arena, told.append), told


async def test_peer_that_fails_or_is_not_installed_is_told_and_left_out() -> None:
    missing = Entrant("missing", "no_such_module", steady(1).enter)
    failing = steady(7, WrongRunError("lost one"))
    found, told = await take(Load("work", "n/s", (steady(300), missing, failing, steady(100))))
    assert [(peer.name, peer.value, peer.ratio) for peer in found] == [(OURS, 300.0, 1.0), ("at 100", 100.0, 3.0)]
    assert told == ["missing is not installed", "at 7 left out: WrongRunError: lost one"]


async def test_ours_that_fails_is_an_error() -> None:
    with pytest.raises(WrongRunError, match="lost one"):
        await take(Load("work", "n/s", (steady(300, WrongRunError("lost one")),)))


@pytest.mark.parametrize("load", [WRITES, RELAY, RESUME], ids=lambda load: load.what)
async def test_every_load_is_done_by_ours_and_by_who_is_installed(load: Load) -> None:
    found, told = await take(load)
    names = [peer.name for peer in found]
    assert names[0] == OURS
    assert TCP in names or load is not WRITES
    assert all(peer.value > 0 and len(peer.runs) == 1 for peer in found)
    assert not [line for line in told if "left out" in line]
    assert len(names) + len(told) == len(load.entrants)


async def test_memory_of_writers_and_live_readers_is_counted(server_url: str) -> None:
    found = await measure_memory(server_url, 50, readers=True)
    assert 500 < found.writer < 100_000
    assert found.reader is not None
    assert 500 < found.reader < 100_000
    assert (await measure_memory(server_url, 10, readers=False)).reader is None


async def test_cluster_shares_the_chunks_and_is_counted() -> None:
    one, three = await measure_scaling(Size(TINY))
    assert [one.nodes, three.nodes] == [1, 3]
    assert [share.chunks for share in one.shares] == [150]
    assert sum(share.chunks for share in three.shares) == 150
    assert all(share.chunks > 0 and share.connections >= 1 for share in three.shares)
    assert three.server_cpu_us > 0
    assert three.client_cpu_us > 0
