"""Programs that write sessions and usage entries, and one that looks at both all the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from helix_fast.connect import Helix
from helix_fast.errors import HelixError, SessionExistsError, SessionNotFoundError, StoreError

from .program import Program

TOKENS = 3
"""Of each usage entry: the sum of all must be so many times their number."""


def told_of_sessions(program: Program, helix: Helix) -> None:
    """Write down what the state store says is lost."""

    def told(error: HelixError) -> None:
        session = getattr(error, "session_id", "")
        if error.code == "acknowledged_data_lost" and session:
            first, last = getattr(error, "first", 0), getattr(error, "last", 0)
            program.journal.write("lost", stream=session, first=first, last=last)

    helix.state.on("error", told)


async def _for_each(program: Program, work: Callable[[Program, Helix, str], Awaitable[None]]) -> None:
    helix = await program.connected()
    told_of_sessions(program, helix)
    try:
        await asyncio.gather(*(work(program, helix, name) for name in program.order.ids))
        await asyncio.sleep(0.2)  # what the last calls found is reported
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


async def converse(program: Program) -> None:
    """Appends messages to sessions and changes their states; the first session is its own, the others are shared."""
    await _for_each(program, _converse)


async def ensure_session(program: Program, helix: Helix, session: str) -> None:
    """Create the session unless it is there."""
    with contextlib.suppress(SessionExistsError):
        await program.calls.wait("create", helix.state.create_session(session, agent_type="chaos"))


async def _converse(program: Program, helix: Helix, session: str) -> None:
    dice, journal, number = program.dice, program.journal, 0
    author = f"{program.order.name}.{program.incarnation}.{session}"
    while True:
        last_one, number = program.stopping, number + 1
        name = f"{author}.{number}"
        acknowledged = False
        try:
            if number == 1:
                await ensure_session(program, helix, session)
            action = 0.0 if last_one else dice.random()
            if action < 0.6:
                message = {"role": "user", "content": name}
                count = await program.calls.wait("append", helix.state.append_messages(session, [message]))
                journal.write("appended", session=session, names=[name], count=count)
            elif action < 0.85:
                changes = {f"by-{program.order.name}": name}
                result = await program.calls.wait("merge", helix.state.merge_custom_state(session, changes))
                journal.write("version", session=session, version=result.version)
            else:
                state = await program.calls.wait("load", helix.state.load_state(session))
                if state is not None:
                    journal.write("version", session=session, version=state.version)
            acknowledged = True
        except SessionNotFoundError:
            journal.write("gone", stream=session)
            await create_or_go_on(program, helix, session)
        except HelixError as error:
            # The outcome is not known, and the same message again would be another one.
            program.failed(error, session)
            await asyncio.sleep(0.05)
        if last_one and acknowledged:
            return
        await asyncio.sleep(dice.random() * 0.04)


async def create_or_go_on(program: Program, helix: Helix, session: str) -> None:
    """Create the session; where that fails, its writer finds out with the next write."""
    try:
        await ensure_session(program, helix, session)
    except HelixError as error:
        program.failed(error, session)


async def record(program: Program) -> None:
    """Records usage entries, each until it is acknowledged: its id keeps it from counting twice."""
    await _for_each(program, _record)


async def _record(program: Program, helix: Helix, session: str) -> None:
    dice, number = program.dice, 0
    author = f"{program.order.name}.{program.incarnation}.{session}"
    while True:
        last_one = program.stopping
        names = [f"{author}.{number + n}" for n in range(1 if last_one else dice.choice((1, 1, 3)))]
        number += len(names)
        entries = [
            {
                "kind": "tokens", "sessionId": session, "stepCount": 1, "timestamp": 1_700_000_000_000 + number,
                "source": {"type": "agent", "name": program.order.name}, "id": name, "model": "m",
                "tokens": {"prompt": 1, "completion": TOKENS - 1, "total": TOKENS},
            }
            for name in names
        ]  # fmt: skip
        while True:
            try:
                await program.calls.wait("record", helix.usage.record_entries(entries))
                break
            except HelixError as error:
                program.failed(error, session)
                await asyncio.sleep(0.05)
        program.journal.write("recorded", session=session, names=names)
        if last_one:
            return
        await asyncio.sleep(dice.random() * 0.04)


async def audit(program: Program) -> None:
    """Reads rollups all the time, so that it keeps sums over every fork; at last says what it holds to be stored."""
    await _for_each(program, _audit)


async def _audit(program: Program, helix: Helix, session: str) -> None:
    while True:
        last_one = program.order.closing.exists()
        try:
            rollup = await program.calls.wait("rollup", helix.usage.get_rollup(session))
            page: Any = None if rollup is None else (rollup.entry_count, rollup.tokens.total)
            if last_one:
                program.journal.write("audit", session=session, rollup=page)
                return
        except StoreError as error:
            program.failed(error, session)
        await asyncio.sleep(0.02 + program.dice.random() * 0.1)
