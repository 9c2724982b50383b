"""Programs that hold a lock and write under its fencing token, whatever becomes of the lock meanwhile."""

from __future__ import annotations

import asyncio
import time

from helix_fast.connect import Helix
from helix_fast.errors import (
    HelixError,
    LockLostError,
    LockNotAcquiredError,
    SessionNotFoundError,
    StaleFencingTokenError,
    StoreError,
)
from helix_fast.locks.lock import Lock

from .program import Program
from .storing import ensure_session, told_of_sessions

TTL_MS = 1500


async def hold(program: Program) -> None:
    """Takes the lock of each session, appends messages with its token, and leaves it, again and again."""
    helix = await program.connected()
    told_of_sessions(program, helix)
    try:
        await asyncio.gather(*(_hold_one(program, helix, session) for session in program.order.ids))
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


async def _hold_one(program: Program, helix: Helix, session: str) -> None:
    number = 0
    author = f"{program.order.name}.{program.incarnation}.{session}"
    while not program.stopping:
        asked = time.monotonic()
        try:
            block = helix.locks.hold(session, ttl_ms=TTL_MS, wait_ms=5000)
            lock = await program.calls.wait("acquire", block.__aenter__())
        except (LockNotAcquiredError, StoreError) as error:
            program.failed(error, session)
            await asyncio.sleep(0.05)
            continue
        program.journal.write("granted", session=session, token=lock.fencing_token, asked=asked)
        try:
            for _ in range(program.dice.choice((1, 3, 10))):
                number += 1
                await _write(program, helix, session, lock, f"{author}.{number}")
                await asyncio.sleep(program.dice.random() * 0.03)
        finally:
            try:
                await program.calls.wait("release", block.__aexit__(None, None, None))
                program.journal.write("left", session=session, token=lock.fencing_token)
            except LockLostError:
                program.journal.write("lock lost", session=session, token=lock.fencing_token)


async def _write(program: Program, helix: Helix, session: str, lock: Lock, name: str) -> None:
    token = lock.fencing_token
    moment = time.monotonic()
    if lock.held:  # the clock is read first: it was held at that moment
        program.journal.write("held", sync=False, session=session, token=token, moment=moment)
    message = {"role": "user", "content": name, "token": token}
    try:
        count = await program.calls.wait("append", helix.state.append_messages(session, [message], fencing_token=token))
        program.journal.write("appended", session=session, names=[name], count=count, token=token)
    except SessionNotFoundError:
        program.journal.write("gone", stream=session)
        await ensure_session(program, helix, session)
    except StaleFencingTokenError as error:
        program.journal.write("refused", session=session, token=token, current=error.current)
    except HelixError as error:
        program.failed(error, session)
        await asyncio.sleep(0.05)
