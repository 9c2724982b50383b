"""`helix-fast serve` and `top` as programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import httpx
import pytest

from helix_fast import connect

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "helix_fast.cli"]


async def test_serve_says_where_and_ends_on_request(server_url: str) -> None:
    async with connect(server_url) as helix:
        await helix.state.create_session("s", agent_type="a")
    command = [*COMMAND, "serve", "--url", server_url, "--port", "0", "--token", "new"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\?token=(.+)\n", server.stdout.readline())
        assert address is not None
        headers = {"Authorization": f"Bearer {address[2]}"}
        async with httpx.AsyncClient(verify=False, timeout=30) as client:
            found = await client.get(address[1] + "api/list", headers=headers)
            assert [row["id"] for row in found.json()["rows"]] == ["s"]
            levels = {one["level"] for one in (await client.get(address[1] + "api/health", headers=headers)).json()}
            assert "ok" in levels
        server.terminate()
        _, errors = server.communicate(timeout=60)
        assert errors == ""
    finally:
        server.kill()


def test_serve_is_not_for_others_without_a_token() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HELIX_TOKEN"}
    command = [*COMMAND, "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--token" in done.stderr


async def test_top_looks_once_where_there_is_no_terminal(server_url: str) -> None:
    async with connect(server_url) as helix:
        await helix.state.create_session("session-1", agent_type="a")
        async with await helix.streams.create_writer("session-1", "a") as writer:
            await writer.write({"type": "text_delta", "delta": "x"})
    environment = {**os.environ, "HELIX_URL": server_url, "COLUMNS": "100"}
    done = subprocess.run([*COMMAND, "top"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert re.search(r"session-1\s+active\s+1", done.stdout)
    assert "1 session · 1 live" in done.stdout
    done = subprocess.run(
        [*COMMAND, "top", "--json"], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["rows"][0]["id"] == "session-1"
