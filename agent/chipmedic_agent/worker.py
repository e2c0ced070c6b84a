"""A thread of its own for calls that may never return.

The event loop's executor will not do: a few stuck calls would use it up, and Python waits for its
threads at exit. A worker's thread is a daemon, does one call at a time, and lives as long as its
owner: a child process that asked to die with its parent (`PR_SET_PDEATHSIG`) dies with the parent's
*thread*.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Worker:
    """One thread that does one blocking call after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], Result]) -> asyncio.Future[Result]:
        """Run a function in the thread after what was asked for before.

        The future may be abandoned; whoever waits with a deadline must not cancel it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put((function, future, loop))
        return future

    def close(self) -> None:
        """Let the thread end when it has done what it was asked; never blocks."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future, loop = call
            try:
                result = function()
            except BaseException as e:  # noqa: BLE001 - handed to whoever waits, not handled here
                _tell(loop, future, e, None)
            else:
                _tell(loop, future, None, result)
            del call, function, future


async def apart(name: str, function: Callable[[], Result]) -> Result:
    """Run one call in a thread of its own, for which the end of the agent does not wait."""
    worker = Worker(name)
    try:
        return await worker.call(function)
    finally:
        worker.close()


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    error: BaseException | None,
    result: Any,
) -> None:
    """Hand an outcome to the loop; nobody is there any more when the process ends."""

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(settle)


async def finished(future: asyncio.Future[Any], within_seconds: float) -> bool:
    """Wait for a future without cancelling it; False: it has not come in time."""
    done, _ = await asyncio.wait({future}, timeout=within_seconds)
    return bool(done)
