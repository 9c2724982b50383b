"""The fixtures that programs which use helix-fast may import."""

from __future__ import annotations

import pytest

from helix_fast import connect
from helix_fast.testing import helix_server, helix_url  # noqa: F401


@pytest.mark.parametrize("_turn", [1, 2])
async def test_every_test_begins_with_an_empty_server(helix_url: str, _turn: int) -> None:  # noqa: F811
    async with connect(helix_url) as helix:
        assert not await helix.state.session_exists("s")
        await helix.state.create_session("s", agent_type="a")
