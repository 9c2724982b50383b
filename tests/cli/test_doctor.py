"""doctor: what it finds on good and on bad servers, and what it tells to do. With the help of each command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helix_fast import Helix, connect
from helix_fast.cli.app import app
from helix_fast.cli.diagnosis import clients, memory, persistence, replication, server_version, together
from helix_fast.cli.findings import Finding
from helix_fast.cli.rights import TRIED, look_at_rights
from helix_fast.testing.servers import ServerProcess, free_port
from helix_fast.testing.waiting import until
from tests.support.backends import documented_rights
from tests.support.cli import command


def findings(*arguments: str) -> dict[str, dict[str, Any]]:
    """What doctor finds, by name."""
    done = command("doctor", "--json", *arguments)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == any(finding["level"] == "error" for finding in found)
    return {finding["name"]: finding for finding in found}


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


async def test_doctor_passes_a_stream_through_and_leaves_no_key(helix: Helix, server_url: str) -> None:
    found = findings("--url", server_url)
    for name in ("connection", "round trip", "server", "replication", "memory", "clients", "rights", "stream"):
        assert found[name]["level"] == "ok", found[name]
    assert await helix.state._requests.command("", b"DBSIZE") == 0


async def test_doctor_tells_what_the_server_s_refusal_means(helix: Helix, server_url: str) -> None:
    await helix.state._requests.command("", b"CONFIG", b"SET", b"maxmemory", b"1")
    try:
        found = findings("--url", server_url)
    finally:
        await helix.state._requests.command("", b"CONFIG", b"SET", b"maxmemory", b"0")
    assert found["stream"]["level"] == "error"
    assert "raise maxmemory" in found["stream"]["hint"]
    assert found["memory"]["level"] == "warning"


def test_doctor_without_a_server_tells_why() -> None:
    port = free_port()
    found = findings("--url", f"redis://127.0.0.1:{port}")
    assert found["connection"]["level"] == "error"
    assert str(port) in found["connection"]["detail"]
    assert "check that the server runs" in found["connection"]["hint"]
    assert "stream" not in found


async def test_doctor_goes_on_where_the_server_does_not_tell_what_it_is(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as helix:
        await helix.state._requests.command("", b"ACL", b"SETUSER", *documented_rights(), "-info")
    found = findings("--url", fresh_server.url.replace("//", "//helix:password@", 1))
    assert (found["server"]["level"], found["stream"]["level"]) == ("warning", "ok")
    assert "every reconnection begins a term" in found["server"]["hint"]
    assert found["rights"]["hint"] == "ACL SETUSER <user> +info"


def test_doctor_examines_a_server_in_memory() -> None:
    found = findings("--url", "memory://")
    assert (found["server"]["level"], found["stream"]["level"]) == ("ok", "ok")


def test_doctor_tries_every_command_that_the_documented_user_has() -> None:
    documented = {word[1:] for word in documented_rights() if word.startswith("+")}
    assert {form[0] for form in TRIED} == documented - {"subscribe", "unsubscribe"}


async def test_doctor_is_content_with_the_documented_user(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as helix:
        await helix.state._requests.command("", b"ACL", b"SETUSER", *documented_rights())
        found = findings("--url", fresh_server.url.replace("//", "//helix:password@", 1))
        assert await helix.state._requests.command("", b"DBSIZE") == 0
    assert found["rights"]["level"] == found["stream"]["level"] == "ok"
    assert found["server"]["level"] == "ok"


@pytest.mark.parametrize(
    ("change", "missing"),
    [(("-hset", "-zrank"), "+hset +zrank"), (("resetkeys", "~other:*"), "~helix:*"), (("resetchannels",), "&helix:*")],
)
async def test_doctor_names_the_rights_that_the_user_lacks(
    fresh_server: ServerProcess, change: tuple[str, ...], missing: str
) -> None:
    async with connect(fresh_server.url) as helix:
        await helix.state._requests.command("", b"ACL", b"SETUSER", *documented_rights(), *change)
    async with connect(fresh_server.url.replace("//", "//helix:password@", 1)) as helix:
        found = await look_at_rights(
            helix.state._requests, "helix:stream:{doctor}:rights", b"helix:stream:{doctor}:push"
        )
    assert found.level == "error"
    assert found.hint == f"ACL SETUSER <user> {missing}"


async def test_doctor_looks_at_every_server_of_a_cluster(helix_cluster_url: str) -> None:
    # Nodes hear of each other's replicas a moment after the cluster is up.
    await until(lambda: findings("--url", helix_cluster_url)["cluster"]["level"] == "ok", what="all replicas")
    found = findings("--url", helix_cluster_url)
    assert (found["cluster"]["level"], found["cluster"]["hint"]) == ("ok", "")
    assert "3 primaries, 16384 of 16384 slots, state ok" in found["cluster"]["detail"]
    assert found["persistence"]["detail"].count("127.0.0.1:") == 3
    assert found["rights"]["level"] == found["stream"]["level"] == found["memory"]["level"] == "ok"


async def test_doctor_tries_sharded_publishing_on_a_cluster(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as helix:
        await helix.state._requests.command("", b"ACL", b"SETUSER", *documented_rights())
    async with connect(fresh_server.url.replace("//", "//helix:password@", 1)) as helix:
        found = await look_at_rights(helix.state._requests, "helix:{doctor}", b"helix:{doctor}:push", cluster=True)
    assert found.hint == "ACL SETUSER <user> +spublish +pubsub|shardnumsub"


def test_doctor_names_the_server_that_is_not_as_the_others() -> None:
    good, bad = Finding("memory", "ok", "fine"), Finding("memory", "warning", "full", "empty it")
    assert list(together({"a:1": good, "b:1": good})) == [good]
    assert list(together({"a:1": good, "b:1": bad})) == [Finding("memory", "warning", "b:1: full", "empty it")]
    assert list(together({"a:1": bad, "b:1": bad})) == [Finding("memory", "warning", "a:1, b:1: full", "empty it")]
    assert list(together({"": bad})) == [bad]


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "6.2.14"}, "ok"),
        ({"redis_version": "6.0.16"}, "error"),
        ({"redis_version": "10.0.0"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "error"),
    ],
)
def test_doctor_knows_which_servers_are_too_old(info: dict[str, str], level: str) -> None:
    assert server_version(info).level == level


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"maxmemory": "100", "maxmemory_policy": "allkeys-lru"}, "warning"),
        ({"maxmemory": "100", "maxmemory_policy": "noeviction"}, "ok"),
        ({"maxmemory": "100", "maxmemory_policy": "noeviction", "used_memory": "95"}, "warning"),
        ({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}, "ok"),
        ({"maxmemory": "100", "maxmemory_policy": "volatile-lru", "evicted_keys": "1"}, "error"),
    ],
)
def test_doctor_warns_of_a_server_that_throws_sessions_away_when_full(info: dict[str, str], level: str) -> None:
    found = memory(info)
    assert (found.level, bool(found.hint)) == (level, level != "ok")


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"aof_enabled": "1", "appendfsync": "everysec"}, "ok"),
        ({"aof_enabled": "1"}, "ok"),
        ({"aof_enabled": "1", "appendfsync": "no"}, "warning"),
        ({"aof_enabled": "0", "save": "3600 1"}, "warning"),
        ({"aof_enabled": "0", "save": ""}, "warning"),
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, "error"),
        ({"aof_enabled": "0", "rdb_last_bgsave_status": "err"}, "error"),
    ],
)
def test_doctor_tells_what_a_restart_would_lose(info: dict[str, str], level: str) -> None:
    found = persistence(info)
    assert (found.level, bool(found.hint)) == (level, level != "ok")


def test_doctor_tells_of_a_replica_and_of_a_crowded_server() -> None:
    assert replication({"role": "slave"}).level == "error"
    assert replication({"role": "master", "connected_slaves": "2"}).detail == "a primary with 2 replicas"
    assert clients({"connected_clients": "95", "maxclients": "100"}).level == "warning"
    assert clients({"connected_clients": "5", "maxclients": "100"}).level == "ok"


@pytest.mark.parametrize("name", ["demo", "tail", "inspect", "usage", "doctor", "bench"])
def test_help_of_a_command_has_examples_with_options_that_it_has(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).stdout
    options, _, examples = shown.partition("Examples:\n")
    lines = examples.strip().splitlines()
    assert len(lines) >= 2
    for line in lines:
        assert line.strip().startswith(f"helix-fast {name}")
        assert len(line) <= 80
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in options


@pytest.mark.slow
def test_shell_completion_knows_commands_and_options(tmp_path: Path) -> None:
    """As bash calls it; and what --install-completion puts into a home directory."""

    def completions(words: str, number: int) -> list[str]:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("helix-fast"))],
            env={**os.environ, "_HELIX_FAST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.split()

    assert completions("helix-fast do", 1) == ["doctor"]
    assert "--prefix" in completions("helix-fast tail --pr", 2)
    done = subprocess.run(
        # As from a terminal: the shell is found among the parents of the process, wherever the tests themselves run.
        ["bash", "-c", '"$0" --install-completion; exit $?', str(Path(sys.executable).with_name("helix-fast"))],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    installed = "\n".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "_HELIX_FAST_COMPLETE=complete_bash" in installed


async def test_probe_is_one_line_and_writes_nothing(helix: Helix, server_url: str) -> None:
    await helix.state._requests.command("", b"CONFIG", b"RESETSTAT")
    done = command("doctor", "--probe", "--url", server_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"ok: (Valkey|Redis) [\d.]+ \([\d.]+ ms\)\n", done.stdout)
    assert await helix.state._requests.command("", b"DBSIZE") == 0
    stats = (await helix.state._requests.command("", b"INFO", b"commandstats")).decode()
    used = set(re.findall(r"cmdstat_(\w+)", stats)) - {"dbsize", "config"}
    assert used <= {"auth", "client", "cluster", "exists", "hello", "info", "ping", "select"}


async def test_probe_of_a_replica_or_of_no_server_fails_soon(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as stores:
        await stores.state._requests.command("", b"REPLICAOF", b"127.0.0.1", b"1")
    done = command("doctor", "--probe", "--json", "--url", fresh_server.url)
    assert done.returncode == 1
    assert json.loads(done.stdout)["detail"].endswith(": it is a replica")
    fresh_server.kill()
    done = command("doctor", "--probe", "--url", fresh_server.url)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("not ok: ")


async def test_probe_is_enough_for_a_user_who_may_not_ask(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as stores:
        user = (b"ACL", b"SETUSER", b"p", b"on", b">pw", b"~*", b"-@all", b"+ping")
        await stores.state._requests.command("", *user)
    done = command("doctor", "--probe", "--url", fresh_server.url.replace("redis://", "redis://p:pw@"))
    assert (done.returncode, done.stderr) == (0, "")
