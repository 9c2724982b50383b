"""The fixtures that programs which use helix-fast may import."""

from __future__ import annotations

import pytest

from helix_fast import connect
from helix_fast.testing.cluster import ServerCluster


@pytest.mark.parametrize("_turn", [1, 2])
async def test_every_test_begins_with_an_empty_server(helix_url: str, _turn: int) -> None:
    async with connect(helix_url) as helix:
        assert not await helix.state.session_exists("s")
        await helix.state.create_session("s", agent_type="a")


@pytest.mark.parametrize("_turn", [1, 2])
async def test_every_test_begins_with_an_empty_cluster(helix_cluster_url: str, _turn: int) -> None:
    names = [f"s{n}" for n in range(12)]  # on every primary some
    async with connect(helix_cluster_url) as helix:
        for name in names:
            assert not await helix.state.session_exists(name)
            await helix.state.create_session(name, agent_type="a")


async def test_the_cluster_has_three_primaries_with_a_replica_each(helix_cluster: ServerCluster) -> None:
    roles = [node.ask(b"INFO replication").decode() for node in helix_cluster.nodes]
    assert ["role:master" in role for role in roles] == [True] * 3 + [False] * 3
    followed = [int(role.partition("master_port:")[2].split()[0]) for role in roles[3:]]
    assert followed == [node.port for node in helix_cluster.nodes[:3]]
