"""`helix-fast inspect SESSION`: everything stored under one id, and its size."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.locks.schema import LockInfo
from helix_fast.state.schema import AgentState
from helix_fast.streams.schema import StreamInfo

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, fail, run, where_else
from .output import print_json
from .sizes import sizes_of

LONGEST_VALUE = 400
CHECKPOINTS = 5


class Point(msgspec.Struct, rename="camel"):
    """A checkpoint without its state."""

    id: str
    created_at: int
    step_count: int
    status: str
    message_count: int
    metadata: dict[str, Any]


class Inspection(msgspec.Struct, rename="camel"):
    """What ``--json`` prints; None if absent or not permitted. ``sizes`` are bytes of server memory."""

    session_id: str
    state: AgentState | None
    checkpoints: int
    latest_checkpoints: list[Point]
    stream: StreamInfo | None
    lock: LockInfo | None
    usage_entries: int
    sizes: dict[str, int] | None


async def look(helix: Helix, prefix: str, session: str) -> Inspection:
    """Ask all stores at once.

    Raises:
        InvalidIdError, MalformedStateError, StoreConnectionError.
    """
    state, checkpoints, stream, lock, entries, sizes = await asyncio.gather(
        helix.state.load_state(session),
        helix.state.list_checkpoints(session, limit=CHECKPOINTS),
        helix.streams.get_info(session),
        helix.locks.get_holder(session),
        helix.usage.get_entry_count(session),
        sizes_of(helix, prefix, session),
    )
    points = [
        Point(each.id, each.created_at, each.step_count, each.status, each.message_count, each.metadata)
        for each in checkpoints.items
    ]
    return Inspection(session, state, checkpoints.total, points, stream, lock, entries, sizes)


def rows(found: Inspection) -> list[tuple[str, Any]]:
    """The lines of the summary: name and value."""
    lines: list[tuple[str, Any]] = []
    if found.state is not None:
        state = found.state
        lines += [
            ("agent type", state.agent_type),
            ("status", state.status),
            ("version", state.version),
            ("steps, resumes", f"{state.step_count}, {state.resume_count}"),
            ("messages", len(state.messages)),
            ("custom state", state.custom_state),
            ("output", state.output),
            ("error", state.error),
            ("sub-agents", ", ".join(ref.sub_session_id for ref in state.sub_agent_refs)),
            ("created", moment(state.created_at)),
            ("updated", moment(state.updated_at)),
        ]
    lines.append(("checkpoints", found.checkpoints))
    if found.stream is not None:
        info = found.stream
        chunks = f"{info.chunk_count}, sequences {info.first_sequence} to {info.last_sequence}"
        lines += [("stream", info.status), ("stream epoch", info.epoch), ("stream chunks", chunks)]
        lines += [("stream error", info.error), ("stream output", info.output)]
    if found.lock is not None:
        left = "" if found.lock.expires_in_ms is None else f", {found.lock.expires_in_ms / 1000:.1f} s left"
        lines.append(("lock", f"held by {found.lock.owner}, token {found.lock.fencing_token}{left}"))
    lines.append(("usage entries", found.usage_entries))
    if found.sizes is None:
        lines.append(("size", "not told: the server's user needs +memory|usage"))
    else:
        parts = ", ".join(f"{part} {amount(size)}" for part, size in found.sizes.items() if size)
        lines.append(("size", f"about {amount(sum(found.sizes.values()))}: {parts}"))
    return [(name, value) for name, value in lines if value not in (None, "", {}, [])]


def amount(size: int) -> str:
    """A number of bytes with a unit."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def moment(milliseconds: int | None) -> str | None:
    """A time in the local zone."""
    return None if milliseconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def shown(value: Any) -> str:
    """A value on one line, shortened, without control characters that a terminal would obey."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def message_row(message: Any) -> tuple[str, Any]:
    """Role and text of a message."""
    if not isinstance(message, dict):
        return "", message
    rest = {name: value for name, value in message.items() if name not in {"role", "content"} and value is not None}
    content = message.get("content")
    said = content if isinstance(content, str) else msgspec.json.encode(content).decode() if content else ""
    return str(message.get("role", "")), f"{said} {msgspec.json.encode(rest).decode() if rest else ''}".strip()


def show(found: Inspection, messages: int) -> None:
    """Print it as tables, with at most the newest ``messages`` messages."""
    table = Table(title=Text(f"session {found.session_id}"), show_header=False)
    for name, value in rows(found):
        table.add_row(name, Text(shown(value)))
    console = Console()
    console.print(table)
    newest = found.state.messages[-messages:] if found.state is not None and messages else []
    if found.state is not None and newest:
        total = len(found.state.messages)
        of = "messages" if len(newest) == total else f"the newest {len(newest)} of {total} messages"
        table = Table("", "role", "content", title=Text(of))
        for number, message in enumerate(newest, total - len(newest) + 1):
            role, content = message_row(message)
            table.add_row(str(number), Text(shown(role)), Text(shown(content)))
        console.print(table)
    if found.latest_checkpoints:
        count = len(found.latest_checkpoints)
        of = "checkpoints" if count == found.checkpoints else f"the newest {count} of {found.checkpoints} checkpoints"
        table = Table("id", "created", "step", "status", "messages", title=Text(of))
        for each in found.latest_checkpoints:
            numbers = (str(each.step_count), Text(shown(each.status)), str(each.message_count))
            table.add_row(Text(shown(each.id), overflow="fold"), moment(each.created_at), *numbers)
        console.print(table)


def inspect(
    session: Annotated[str, typer.Argument(help="Id of the session, stream or lock.")],
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    messages: Annotated[int, typer.Option(help="Number of the newest messages to show.", min=0)] = 5,
    json: JsonOption = False,
) -> None:
    """Show what the store holds under one id: state, messages, checkpoints, stream, lock, usage and their sizes.

    With --json all messages are there.
    """

    async def work() -> int:
        async with connect(url, key_prefix=prefix) as helix:
            found = await look(helix, prefix, session)
        if found.state is None and found.stream is None and found.lock is None and not found.usage_entries:
            fail(f"nothing is stored for {session!r}", where_else(url))
        if json:
            print_json(found)
        else:
            show(found, messages)
        return 0

    run(work)
