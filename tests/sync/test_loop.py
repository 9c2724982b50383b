"""The background event loop: results, errors, contexts, threads, interruptions, forks, the end of the interpreter."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from helix_fast import InvalidArgumentError
from helix_fast.sync import loop


def program(code: str, *, warned: bool = False) -> str:
    """Run a program with warnings on; its output. It must write nothing to stderr, unless it may be warned."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr if not warned else "", done.returncode) == ("", 0), done.stderr
    return done.stdout


async def doubled(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def raising() -> None:
    raise KeyError("inside")


def test_a_coroutine_gives_its_result_and_its_error() -> None:
    assert loop.run(doubled(21)) == 42
    with pytest.raises(KeyError, match="inside"):
        loop.run(raising())


def test_a_plain_function_runs_on_the_same_loop() -> None:
    async def running() -> Any:
        return asyncio.get_running_loop()

    assert loop.call(asyncio.get_running_loop) is loop.run(running()) is loop.background().loop


def test_posted_functions_keep_their_order_among_calls() -> None:
    seen: list[int] = []
    for number in range(100):
        loop.post(lambda number=number: seen.append(number))  # type: ignore[misc]
    loop.post(lambda: 1 / 0)
    assert loop.call(lambda: list(seen)) == list(range(100))


def test_a_coroutine_sees_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def value() -> int:
        return variable.get()

    variable.set(7)
    assert loop.run(value()) == 7


def test_a_call_within_a_running_event_loop_works() -> None:
    async def main() -> int:
        return loop.run(doubled(4))

    assert asyncio.run(main()) == 8


def test_a_call_on_the_background_loop_itself_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        loop.call(lambda: loop.run(doubled(1)))
    assert caught.value.hint


def test_many_threads_get_each_its_own_result() -> None:
    wrong: list[Any] = []
    barrier = threading.Barrier(50)

    def work(start: int) -> None:
        barrier.wait()
        wrong.extend(number for number in range(start, start + 100) if loop.run(doubled(number)) != 2 * number)

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_an_interrupt_cancels_the_call_and_leaves_the_loop_usable() -> None:
    printed = program("""
        import asyncio, signal, threading
        from helix_fast.sync import loop

        ended = []

        async def endless():
            main = threading.main_thread().ident
            loop.background().loop.call_later(0.05, signal.pthread_kill, main, signal.SIGINT)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                ended.append(True)

        for _ in range(5):
            try:
                loop.run(endless())
            except KeyboardInterrupt:
                pass
        print(len(ended), loop.run(asyncio.sleep(0, "usable")))
    """)
    assert printed == "5 usable\n"


def test_interrupts_at_any_time_lose_no_call_of_other_threads() -> None:
    printed = program(
        """
        import asyncio, signal, threading
        from helix_fast.sync import loop

        stop = False
        counts = [0] * 4

        def work(index):
            while not stop:
                loop.run(asyncio.sleep(0))
                counts[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()

        class Interrupt(BaseException):
            pass

        def interrupt(*_):
            global armed
            armed = False
            raise Interrupt

        signal.signal(signal.SIGALRM, interrupt)
        for round in range(300):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + round % 10 / 20_000)
                while armed:  # an exception within a finalizer is lost
                    loop.run(asyncio.sleep(0))
            except Interrupt:
                pass
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        before = list(counts)
        while any(count < old + 5 for count, old in zip(counts, before)):
            loop.run(asyncio.sleep(0.001))
        stop = True
        for thread in threads:
            thread.join()
        print("all of them go on")
    """,
        warned=True,
    )  # of a coroutine that was interrupted before it began
    assert printed == "all of them go on\n"


def test_an_interrupted_post_leaves_the_loop_usable() -> None:
    printed = program(
        """
        import asyncio, signal
        from helix_fast.sync import loop

        class Interrupt(BaseException):
            pass

        def interrupt(*_):
            global armed
            armed = False
            raise Interrupt

        signal.signal(signal.SIGALRM, interrupt)
        for round in range(1500):
            loop.run(asyncio.sleep(0))
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + round % 50 / 500_000)
                while armed:
                    loop.post(int)
            except Interrupt:
                pass
        print("usable")
    """,
        warned=True,
    )  # of an interrupt within a finalizer
    assert printed == "usable\n"


def test_a_forked_child_begins_a_loop_of_its_own() -> None:
    printed = program("""
        import asyncio, os, sys, warnings
        from helix_fast.sync import loop

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        parent = loop.background()
        print(loop.run(asyncio.sleep(0, "parent")), flush=True)
        child = os.fork()
        if child == 0:
            print(loop.run(asyncio.sleep(0, "child")), loop.background() is not parent, flush=True)
            sys.exit(3)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), loop.run(asyncio.sleep(0, "parent")), loop.background() is parent)
    """)
    assert printed == "parent\nchild True\n3 parent True\n"


def test_the_interpreter_exits_with_calls_in_flight() -> None:
    printed = program("""
        import asyncio, atexit, threading, time
        from helix_fast.sync import loop
        from helix_fast import StoreClosedError

        atexit.register(lambda: print(loop.run(asyncio.sleep(0, "before its end"))))

        def wait():
            try:
                loop.run(asyncio.Event().wait())
            except StoreClosedError:
                pass  # it is told, and may not print any more

        threading.Thread(target=wait, daemon=True).start()
        worker = threading.Thread(target=lambda: (time.sleep(0.2), print(loop.run(asyncio.sleep(0, "worker")))))
        worker.start()
        print(loop.run(asyncio.sleep(0, "main")))
    """)
    assert printed == "main\nworker\nbefore its end\n"


def test_after_its_end_calls_are_refused() -> None:
    printed = program("""
        import asyncio, atexit

        def last():
            try:
                loop.run(asyncio.sleep(0))
            except StoreClosedError as error:
                print(error.code)

        atexit.register(last)  # runs after the functions that the import registers
        from helix_fast import StoreClosedError
        from helix_fast.sync import loop
        loop.run(asyncio.sleep(0))
    """)
    assert printed == "store_closed\n"
