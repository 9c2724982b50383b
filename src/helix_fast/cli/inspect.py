"""`helix-fast inspect SESSION`: what the store holds under one id: state, checkpoints, stream, lock and usage."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.schemas.locks import LockInfo
from helix_fast.schemas.state import AgentState
from helix_fast.schemas.streams import StreamInfo

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, fail, run

LONGEST_VALUE = 400


class Inspection(msgspec.Struct, rename="camel"):
    """What ``--json`` prints; None for what there is not."""

    session_id: str
    state: AgentState | None
    checkpoints: int
    stream: StreamInfo | None
    lock: LockInfo | None
    usage_entries: int


async def look(helix: Helix, session: str) -> Inspection:
    """Ask all stores at once.

    Raises:
        InvalidIdError, MalformedStateError, StoreConnectionError.
    """
    state, checkpoints, stream, lock, entries = await asyncio.gather(
        helix.state.load_state(session),
        helix.state.list_checkpoints(session, limit=1),
        helix.streams.get_info(session),
        helix.locks.get_holder(session),
        helix.usage.get_entry_count(session),
    )
    return Inspection(session, state, checkpoints.total, stream, lock, entries)


def rows(found: Inspection) -> list[tuple[str, Any]]:
    """Name and value of what is worth a line."""
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
    return [(name, value) for name, value in lines if value not in (None, "", {}, [])]


def moment(milliseconds: int | None) -> str | None:
    """A time as people read it, in their own zone."""
    return None if milliseconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def shown(value: Any) -> str:
    """One line of a value, cut where it gets long; nothing in it can steer a terminal."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def show(found: Inspection) -> None:
    """Print what was found as a table."""
    table = Table(title=Text(f"session {found.session_id}"), show_header=False)
    for name, value in rows(found):
        table.add_row(name, Text(shown(value)))
    Console().print(table)


def inspect(
    session: Annotated[str, typer.Argument(help="Id of the session, stream or lock.")],
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    json: JsonOption = False,
) -> None:
    """Show what the store holds under one id: state, checkpoints, stream, lock and usage."""

    async def work() -> int:
        async with connect(url, key_prefix=prefix) as helix:
            found = await look(helix, session)
        if found.state is None and found.stream is None and found.lock is None and not found.usage_entries:
            fail(f"nothing is stored for {session!r}", "check the id, --prefix and --url")
        if json:
            sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        else:
            show(found)
        return 0

    run(work)
