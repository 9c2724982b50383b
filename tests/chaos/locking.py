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
    StreamDeletedError,
    StreamResetError,
)
from helix_fast.locks.lock import Lock

from .program import Program
from .storing import create_or_go_on, told_of_sessions
from .streaming import told_of_streams

TTL_MS = 1500
FENCED_STREAM = "fenced"


async def hold(program: Program) -> None:
    """Takes the lock of each session, appends messages with its token, and leaves it, again and again."""
    helix = await program.connected()
    told_of_sessions(program, helix)
    told_of_streams(program, helix)
    try:
        await asyncio.gather(*(_hold_one(program, helix, session) for session in program.order.ids))
        program.journal.write("finished")
    finally:
        program.calls.report()
        await program.calls.wait("close", helix.close())


async def _hold_one(program: Program, helix: Helix, session: str) -> None:
    number = 0
    author = f"{program.order.name}.{program.incarnation}.{session}"
    last_one = False
    while not last_one:
        last_one = program.stopping
        asked = time.monotonic()
        try:
            block = helix.locks.hold(session, ttl_ms=TTL_MS, wait_ms=5000)
            lock = await program.calls.wait("acquire", block.__aenter__())
        except (LockNotAcquiredError, StoreError) as error:
            program.failed(error, session)
            await asyncio.sleep(0.05)
            last_one = False
            continue
        program.journal.write("granted", session=session, token=lock.fencing_token, asked=asked)
        try:
            for _ in range(program.dice.choice((1, 3, 10))):
                number += 1
                await _write(program, helix, session, lock, f"{author}.{number}")
                last_one = await _stream(program, helix, lock) and last_one
                await asyncio.sleep(program.dice.random() * 0.03)
        finally:
            try:
                await program.calls.wait("release", block.__aexit__(None, None, None))
                program.journal.write("left", session=session, token=lock.fencing_token)
            except LockLostError:
                program.journal.write("lock lost", session=session, token=lock.fencing_token)


async def _stream(program: Program, helix: Helix, lock: Lock) -> bool:
    """Take the stream over with the token, and write to it; returns whether all of it was acknowledged."""
    token, stream = lock.fencing_token, FENCED_STREAM
    author = f"{program.order.name}.{program.incarnation}.{stream}.token{token}.{time.monotonic_ns()}"
    try:
        opening = helix.streams.create_writer(stream, program.order.name, fencing_token=token)
        writer = await program.calls.wait("open", opening)
        try:
            for number in range(program.dice.choice((1, 4))):
                name = f"{author}.{number}"
                last = await program.calls.wait("write", writer.write({"type": "text_delta", "delta": name}))
                program.journal.write("ack", stream=stream, names=[name], last=last)
        finally:
            await program.calls.wait("close", writer.close())
    except (StreamDeletedError, StreamResetError) as error:
        program.journal.write("gone", stream=stream, code=error.code)
    except HelixError as error:
        program.failed(error, stream)
    else:
        return True
    return False


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
        await create_or_go_on(program, helix, session)
    except StaleFencingTokenError as error:
        program.journal.write("refused", session=session, token=token, current=error.current)
    except HelixError as error:
        program.failed(error, session)
        await asyncio.sleep(0.05)
