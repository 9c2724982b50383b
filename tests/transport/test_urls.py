"""URLs: their forms, and that nothing of a user name or password is ever shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helix_fast import (
    HelixError,
    InvalidArgumentError,
    InvalidUrlError,
    RedisLockManager,
    RedisResumableStorage,
    RedisStateStore,
    RedisStreamManager,
    RedisUsageStore,
    connect,
)
from helix_fast.testing.servers import ServerProcess, free_port
from helix_fast.transport.url import split
from tests.support.cli import command
from tests.support.errors import everything_about
from tests.support.sentinel import MASTER, SentinelSet
from tests.support.tls import TlsFront

SECRETS = ("hunter2", "sesame9")
ODD = "#/?@:[]%&=+;,\\'\"<> \t\n\x7fé\u200b\ud83d0"
passwords = st.text(st.sampled_from(ODD), max_size=6).map(lambda odd: SECRETS[0] + odd + SECRETS[1])
FORMS = [
    "redis://bob:{}@127.0.0.1:{port}/0",
    "rediss://:{}@127.0.0.1:{port}",
    "valkey://{}:bob@127.0.0.1:{port}",
    "redis+cluster://bob:{}@127.0.0.1:{port}",
    "redis+sentinel://bob:{}@127.0.0.1:{port}/main",
    "unix://bob:{}@/nowhere/socket",
    "embedded://bob:{}@/x",
    "embedded://{}",
    "memory://bob:{}@host",
    "http://bob:{}@host",
    "bob:{}@host",
    "redis://bob:{}",
    "redis://127.0.0.1:{port}/{}@x",
    "redis://[{}]:{port}",
]
every_form = pytest.mark.parametrize("form", FORMS)
PORT = free_port()


async def use_helix(url: str) -> None:
    async with connect(url, retry_timeout=0):
        pass


def use_store(store: Callable[[str], Any], call: str) -> Callable[[str], Any]:
    async def use(url: str) -> None:
        async with store(url) as made:
            await getattr(made, call)("s")

    return use


USES = {
    "connect": use_helix,
    "state": use_store(RedisStateStore, "exists"),
    "streams": use_store(RedisStreamManager, "get_info"),
    "resumable": use_store(RedisResumableStorage, "read_from"),
    "usage": use_store(RedisUsageStore, "exists"),
    "locks": use_store(RedisLockManager, "is_locked"),
}


@every_form
@settings(max_examples=settings().max_examples // 4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=passwords)
@example(password="hunter2#sesame9")
@example(password="hunter2/sesame9")
@example(password="1/hunter2?sesame9")
@example(password="1?hunter2=sesame9")
@example(password="1?client_name=hunter2")
@example(password="0/hunter2")
@example(password="hunter2]")
@example(password="hunter2\u2100sesame9")
def test_no_part_of_a_password_is_shown(caplog: pytest.LogCaptureFixture, form: str, password: str) -> None:
    caplog.set_level(logging.DEBUG)

    async def refused() -> dict[str, HelixError]:
        errors = {}
        for name, use in USES.items():
            with pytest.raises(HelixError) as caught:
                await use(form.format(password, port=PORT))
            errors[name] = caught.value
        return errors

    said = [*map(everything_about, asyncio.run(refused()).values()), caplog.text]
    # These leave out the host, if it has the form of a host.
    if form not in {"redis://bob:{}", "embedded://{}"}:
        assert not [(secret, text) for secret in SECRETS for text in said if secret in text.lower()]
    caplog.clear()


@pytest.mark.parametrize(
    "scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel", "valkeys", "unix", "embedded"]
)
@pytest.mark.parametrize("password", ["hunter2#x", "hunter2/x", "hunter2?x", "hunter2?x=1", "12/3", "12?3=4", "a@b#c"])
async def test_a_password_that_is_not_encoded_is_told_so(scheme: str, password: str) -> None:
    with pytest.raises(InvalidUrlError) as caught:
        await connect(f"{scheme}://bob:{password}@localhost/main")
    assert "percent-encode" in caught.value.hint
    assert "hunter2" not in everything_about(caught.value)


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_is_percent_encoded_comes_back(username: str, password: str) -> None:
    url = split(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@host:7/3?client_name=a%40b")
    assert (url.username or "", url.password or "") == (username, password)
    assert (url.hosts, url.path, url.query) == ([("host", 7)], "/3", "client_name=a%40b")


COMMANDS = [["demo"], ["tail", "s"], ["inspect", "s"], ["usage", "s"], ["doctor"], ["bench"]]


@pytest.mark.parametrize(
    ("words", "password"),
    [
        *((words, "hunter2#sesame9") for words in COMMANDS),
        (["demo"], "1?hunter2/sesame9"),
        (["demo"], "hunter2[sesame9"),
    ],
    ids=repr,
)
def test_the_command_line_shows_no_part_of_a_password(words: list[str], password: str) -> None:
    done = command(*words, env={"HELIX_URL": f"redis://bob:{password}@127.0.0.1:{PORT}"})
    assert done.returncode == 2
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost/abc", "number of a database"),
        ("redis://localhost/1/2", "number of a database"),
        ("redis+cluster://localhost/abc", "number of a database"),
        ("valkey+cluster://localhost/2", "no databases but 0"),
        ("redis+sentinel://h/main/abc", "db must be a number"),
        ("redis+sentinel://h/main/1/2", "db must be a number"),
        ("redis+sentinel://h,/main", "names hosts and a master"),
        ("redis://localhost:99999", "host and port"),
        ("redis://localhost:6379x", "host and port"),
        ("redis://h1,h2", "several hosts"),
        ("redis://localhost/0?db", "must be settings"),
        ("redis://localhost/0#1", "percent-encoded"),
        ("unix://host/path", "names a path"),
        ("embedded:///dir?x=1", "names a directory"),
        ("embedded:///dir#1", "percent-encoded"),
    ],
)
async def test_a_url_that_would_mean_something_else_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidUrlError, match=said) as caught:
        await connect(url)
    assert caught.value.hint


class TestSchemes:
    @pytest.mark.parametrize("scheme", ["redis", "valkey"])
    async def test_a_server(self, fresh_server: ServerProcess, scheme: str) -> None:
        async with connect(f"{scheme}://127.0.0.1:{fresh_server.port}/3") as helix:
            await helix.state.create_session("s", agent_type="a")
        async with connect(f"{scheme}://127.0.0.1:{fresh_server.port}?db=3&client_name=x%40y") as helix:
            assert await helix.state.exists("s")
            assert await helix.state._requests.command("", "CLIENT", "GETNAME") == b"x@y"
        async with connect(f"{scheme}://127.0.0.1:{fresh_server.port}/", client_name="me") as helix:
            assert not await helix.state.exists("s")
            assert await helix.state._requests.command("", "CLIENT", "GETNAME") == b"me"
        async with connect(f"{scheme}://127.0.0.1:{fresh_server.port}/3?client_name=x", client_name="y", db=1) as helix:
            assert await helix.state.exists("s"), "what the URL says counts"
            assert await helix.state._requests.command("", "CLIENT", "GETNAME") == b"x"
        async with connect(f"{scheme}://127.0.0.1:{fresh_server.port}", db=3) as helix:
            assert await helix.state.exists("s")

    @pytest.mark.parametrize("password", ["p@ss#w/o?rd", "100%", "a:b[c]", "ключ é", "%41"])
    async def test_an_odd_password_logs_in_when_it_is_encoded(self, fresh_server: ServerProcess, password: str) -> None:
        async with connect(fresh_server.url) as helix:
            await helix.state._requests.command("", "ACL", "SETUSER", "bob", "on", f">{password}", "~*", "&*", "+@all")
        url = f"valkey://bob:{quote(password, safe='')}@127.0.0.1:{fresh_server.port}/0"
        async with connect(url) as helix:
            assert await helix.state._requests.command("", "ACL", "WHOAMI") == b"bob"

    async def test_tls(self, server_url: str, tmp_path: Any) -> None:
        async with TlsFront(server_url, tmp_path) as front:
            url = front.url.replace("rediss", "valkeys", 1)
            async with connect(url, ssl_ca_certs=front.authority) as helix:
                assert not await helix.state.exists("s")

    async def test_a_cluster(self, cluster: Any) -> None:
        async with connect(cluster.url.replace("redis+", "valkey+", 1)) as helix:
            assert not await helix.state.exists("s")

    async def test_sentinels_and_a_database(self, short_path: Any) -> None:
        watched = SentinelSet(short_path, replicas=0, sentinels=1)
        try:
            await watched.start()
            async with connect(f"valkey+sentinel://{watched.hosts}/{MASTER}/2") as helix:
                await helix.state.create_session("s", agent_type="a")
            async with connect(f"redis+sentinel://{watched.hosts}/{MASTER}?db=2") as helix:
                assert await helix.state.exists("s")
            async with connect(f"redis+sentinel://{watched.hosts}/{MASTER}") as helix:
                assert not await helix.state.exists("s")
            async with connect(f"redis+sentinel://{watched.hosts}/{MASTER}", db=2) as helix:
                assert await helix.state.exists("s")
            async with connect(f"redis+sentinel://{watched.hosts}/{MASTER}/2", db=1) as helix:
                assert await helix.state.exists("s"), "as at one server, what the URL says counts"
        finally:
            await watched.stop()


@pytest.mark.parametrize("setting", ["ssl_ca_certs", "ssl_certfile", "ssl_ca_path"])
async def test_a_file_for_tls_that_is_missing_is_named(tmp_path: Any, setting: str) -> None:
    missing = str(tmp_path / "none.pem")
    attempts: list[Callable[[], object]] = [
        lambda: connect("rediss://localhost", **{setting: missing}),
        lambda: connect(f"rediss://localhost?{setting}={missing}"),
        lambda: connect("valkeys+cluster://localhost", **{setting: missing}),
        lambda: connect("valkeys+sentinel://localhost/main", **{setting: missing}),
        lambda: RedisStateStore(f"rediss://localhost?{setting}={missing}"),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidArgumentError, match=r"none\.pem") as caught:
            await attempt()  # type: ignore[misc]
        assert setting in str(caught.value)
