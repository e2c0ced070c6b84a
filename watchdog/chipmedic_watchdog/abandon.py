"""Calls of code that may never return: each in a thread of its own that can be left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def call_abandonable(
    work: Callable[[], Result], *, timeout_seconds: float, name: str
) -> Result:
    """Run blocking `work` off the event loop and wait for it, at most so long.

    The thread is a daemon: when it is stuck it is left behind and does not keep the process from
    ending. What it returns too late is dropped.

    Raises:
        TimeoutError: it did not return in time; it may still be running.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as e:  # noqa: BLE001  it is raised again where it is awaited
            _settle(loop, future, None, e)
        else:
            _settle(loop, future, result, None)

    threading.Thread(target=run, name=name, daemon=True).start()
    async with asyncio.timeout(timeout_seconds):
        return await future


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Result],
    result: Result | None,
    error: BaseException | None,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
