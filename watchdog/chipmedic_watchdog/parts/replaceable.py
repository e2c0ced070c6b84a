"""A loop that a reload replaces: it survives that as it survives a restart."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar


class Loop(Protocol):
    """A part that works by itself and can be woken."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def wake(self) -> None:
        """Look now."""
        ...


L = TypeVar("L", bound=Loop)


class Replaceable(Generic[L]):
    """Holds the present loop, and runs it."""

    def __init__(self, name: str, loop: L) -> None:
        self._name = name
        self._replaced = asyncio.Event()
        self.loop = loop

    def replace(self, loop: L) -> None:
        """Go on with another loop; one that does not run now is simply exchanged."""
        self.loop = loop
        self._replaced.set()

    def wake(self) -> None:
        """Let the present loop look now."""
        self.loop.wake()

    async def run(self) -> None:
        """Run the present loop, and whichever replaces it, until cancelled."""
        while True:
            self._replaced.clear()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.loop.run(), name=self._name)
                await self._replaced.wait()
                task.cancel()
