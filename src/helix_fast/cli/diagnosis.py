"""What `helix-fast doctor` asks a server, and what it makes of the answers."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from redis.crc import key_slot

from helix_fast.connect import Helix
from helix_fast.errors import HelixError, StoreResponseError
from helix_fast.keys import StreamKeys
from helix_fast.requests import Requests

from .findings import Finding
from .output import counted
from .rights import look_at_rights

ROUND_TRIPS: Final = 100
PROBE_CHUNKS: Final = 100
SLOW_MS: Final = 5.0
SLOTS: Final = 16_384
CROWDED: Final = 0.9  # of a limit

Info = dict[str, str]


async def look_at_server(helix: Helix, prefix: str, *, temporary: bool = False) -> AsyncIterator[Finding]:
    """Everything that can be told with a server; a ``temporary`` one is meant to keep nothing."""
    requests = helix.state._requests
    yield await round_trips(requests)
    cluster, tags = await look_at_cluster(requests)
    servers: dict[str, Info] = {}
    refusal = ""
    for address, tag in tags.items():
        try:
            servers[address] = settings_of(await requests.command(tag, b"INFO"), await configuration(requests, tag))
        except HelixError as error:  # noqa: PERF203
            refusal = str(error)
    if servers:
        for check in (server_version, replication, memory, forgetting if temporary else persistence, clients):
            for finding in together({address: check(info) for address, info in servers.items()}):
                yield finding
    if refusal:
        hint = "allow the user +info: without it every reconnection begins a term, and this cannot be looked at"
        yield Finding("server", "warning", f"does not tell what it is: {refusal}", hint)
    if cluster is not None:
        yield cluster
    name = f"doctor-{secrets.token_hex(4)}"
    keys = StreamKeys(prefix, name)
    yield await look_at_rights(requests, keys.stream.decode() + ":rights", keys.channel, cluster=cluster is not None)
    yield await pass_a_stream_through(helix, name)


async def round_trips(requests: Requests) -> Finding:
    """How long the server takes to answer."""
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await requests.command("", b"PING")
        times.append(1000 * (time.perf_counter() - began))
    median, worst = sorted(times)[ROUND_TRIPS // 2], max(times)
    detail = f"{median:.2f} ms, at worst {worst:.2f} ms of {ROUND_TRIPS}"
    if median > SLOW_MS:
        hint = "every write that is waited for takes this long: run the program closer to the server, or use send()"
        return Finding("round trip", "warning", detail, hint)
    return Finding("round trip", "ok", detail)


async def look_at_cluster(requests: Requests) -> tuple[Finding | None, dict[str, str]]:
    """What a cluster says of itself, None where it is none; and each server's address, with a tag that leads there."""
    try:
        slots = await requests.command("", b"CLUSTER", b"SLOTS")
    except HelixError:  # no cluster, or a user who need not know: then its one server is asked
        return None, {"": ""}
    if not slots:
        return None, {"": ""}
    nodes = {f"{(node[0] or b'').decode()}:{node[1]}": (start, end) for start, end, node, *_replicas in slots}
    tags = {address: tag_between(start, end) for address, (start, end) in nodes.items()}
    replicas = sum(len(entry) > 3 for entry in slots)
    covered = sum(entry[1] - entry[0] + 1 for entry in slots)
    try:
        state = settings_of(await requests.command("", b"CLUSTER", b"INFO")).get("cluster_state", "unknown")
    except StoreResponseError:
        state = "ok" if covered == SLOTS else "unknown"
    detail = f"{counted(len(nodes), 'primary', 'primaries')}, {covered} of {SLOTS} slots, state {state}"
    if state != "ok" or covered != SLOTS:
        hint = "sessions in the missing slots fail: redis-cli --cluster check, then --cluster fix"
        return Finding("cluster", "error", detail, hint), tags
    if replicas < len(slots):
        hint = "when such a primary is lost, so are its slots: add replicas"
        return Finding("cluster", "warning", f"{detail}, some primaries have no replica", hint), tags
    return Finding("cluster", "ok", detail), tags


def tag_between(start: int, end: int) -> str:
    """An id whose slot is in the range."""
    number = 0
    while not start <= key_slot(str(number).encode()) <= end:
        number += 1
    return str(number)


async def configuration(requests: Requests, tag: str) -> Info:
    """The settings that INFO does not tell, where the user may ask for them."""
    found: Info = {}
    for name in (b"save", b"appendfsync"):
        try:
            reply = await requests.command(tag, b"CONFIG", b"GET", name)
            found[name.decode()] = reply[1].decode()
        except (HelixError, IndexError):  # noqa: PERF203  not allowed, or hidden by who runs the server
            return {}
    return found


def together(found: dict[str, Finding]) -> Iterator[Finding]:
    """One finding where all servers are fine or there is but one; else those of the servers that are not."""
    wrong: dict[str, list[str]] = {}
    for address, finding in found.items():
        if finding.level != "ok":
            wrong.setdefault(finding.detail, []).append(address)
    if not wrong:
        yield next(iter(found.values()))
    for detail, addresses in wrong.items():
        finding = found[addresses[0]]
        where = "" if len(found) == 1 else f"{', '.join(addresses)}: "
        yield Finding(finding.name, finding.level, where + detail, finding.hint)


def kind_of(info: Info) -> tuple[str, str]:
    """What the server is, and its version; '' if it does not say."""
    return ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info.get("redis_version", ""))


def server_version(info: Info) -> Finding:
    """Whether the server is new enough."""
    kind, number = kind_of(info)
    least = (7, 2) if kind == "Valkey" else (6, 2)
    if tuple(map(int, re.findall(r"\d+", number)[:2])) < least:
        return Finding("server", "error", f"{kind} {number}", f"{kind} {least[0]}.{least[1]} or later is needed")
    return Finding("server", "ok", f"{kind} {number}")


def replication(info: Info) -> Finding:
    """Whether the server takes writes, and who has them too."""
    if info.get("role", "master") != "master":
        hint = "writes need the primary: name it, or use redis+sentinel:// or redis+cluster://"
        return Finding("replication", "error", "this server is a replica", hint)
    count = int(info.get("connected_slaves", "0"))
    return Finding(
        "replication", "ok", f"a primary with {counted(count, 'replica')}" if count else "a primary without replicas"
    )


def memory(info: Info) -> Finding:
    """Whether a full server refuses writes, which writers are told, or throws away what was acknowledged."""
    policy = info.get("maxmemory_policy", "noeviction")
    limit, used, evicted = (int(info.get(name, "0")) for name in ("maxmemory", "used_memory", "evicted_keys"))
    hint = "CONFIG SET maxmemory-policy noeviction: then a full server refuses writes and keeps what it has"
    if evicted:
        level = "error" if limit and policy != "noeviction" else "warning"
        return Finding(
            "memory", level, f"{counted(evicted, 'key was', 'keys were')} evicted, maxmemory-policy is {policy}", hint
        )
    if limit and policy != "noeviction":
        return Finding("memory", "warning", f"maxmemory-policy is {policy}: a full server throws sessions away", hint)
    shown = f"{info.get('used_memory_human', '?')} used"
    if limit and used > CROWDED * limit:
        hint = "raise maxmemory, shorten the TTLs or max_stream_length: a full server refuses writes"
        return Finding("memory", "warning", f"{shown} of {info.get('maxmemory_human', limit)}", hint)
    of = f" of {info.get('maxmemory_human', limit)}" if limit else ", no limit set"
    return Finding("memory", "ok", f"{shown}{of}; nothing is thrown away")


def persistence(info: Info) -> Finding:
    """What a restart of the server loses."""
    name = "persistence"
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        hint = "look into the server's log (disk full? rights?): until it can save, it refuses writes"
        return Finding(name, "error", "the server failed to save its data", hint)
    if info.get("aof_enabled") == "1":
        often = info.get("appendfsync", "")
        if often == "no":
            hint = "CONFIG SET appendfsync everysec"
            return Finding(name, "warning", "append-only file, written out when the system likes", hint)
        lost = {"always": "a crash loses nothing", "everysec": "a crash loses a second"}.get(often, "appendonly yes")
        return Finding(name, "ok", f"append-only file; {lost}")
    hint = "CONFIG SET appendonly yes: then a crash loses a second at most"
    if info.get("save"):
        return Finding(name, "warning", f"snapshots only (save {info['save']}): a crash loses what came after", hint)
    without = "no append-only file: a restart loses what was acknowledged"
    return Finding(name, "warning", without + (" since the last snapshot, if any" if "save" not in info else ""), hint)


def forgetting(_info: Info) -> Finding:
    """A server of ``embedded://`` without a directory goes with its last user, and its data with it."""
    return Finding("persistence", "ok", "none, as embedded:// without a directory is meant to be")


def clients(info: Info) -> Finding:
    """Whether there is room for more connections."""
    connected, limit = int(info.get("connected_clients", "0")), int(info.get("maxclients", "0"))
    detail = f"{connected} connected" + (f", {limit} allowed" if limit else "")
    if limit and connected > CROWDED * limit:
        return Finding("clients", "warning", detail, "raise maxclients, or find out who holds so many connections")
    return Finding("clients", "ok", detail)


async def pass_a_stream_through(helix: Helix, name: str) -> Finding:
    """Write a stream, read it live and delete it."""
    streams = helix.streams
    try:
        writer = await streams.create_writer(name, "doctor")
        try:
            reader = await streams.create_resumable_reader(name)
            for number in range(PROBE_CHUNKS):
                writer.send_text(f"{number} ")
            await writer.close()
            await streams.end_stream(name)
            read = [] if reader is None else [stored.sequence async for stored in reader]
        finally:
            await streams.delete_stream(name)
    except StoreResponseError as error:
        return Finding("stream", "error", f"the server refused: {error}", error.hint, error.help_url)
    except HelixError as error:
        return Finding("stream", "error", str(error), error.hint, error.help_url)
    if read != list(range(1, PROBE_CHUNKS + 1)):
        hint = "please report this, with what else this command found"
        return Finding("stream", "error", f"{PROBE_CHUNKS} chunks written, {len(read)} read", hint)
    return Finding("stream", "ok", f"{PROBE_CHUNKS} chunks written, read live and deleted")


def settings_of(reply: Any, more: Info | None = None) -> Info:
    """The lines ``name:value`` of INFO, and ``more``."""
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {**{name: value.strip() for name, colon, value in lines if colon}, **(more or {})}
