"""Waits for Xids in NVML's event set and passes them on at once; a thread of the child process.

The set is not retroactive and says neither when nor why, so the kernel log stays the richer
source; this one needs no access to it. A wait blocks at most `WAIT_MILLISECONDS`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from ctypes import c_void_p, cast
from typing import Any

import pynvml

XID, UNAVAILABLE, RECOVERY_ACTION = 0x8, 0x4000, 0x8000
WANTED = XID | UNAVAILABLE | RECOVERY_ACTION
WAIT_MILLISECONDS = 5000
RETRY_SECONDS = 5.0
READY_SECONDS = 1.0
"""How long the first answer waits for the set, so that no Xid after it is missed."""
NOT_SUPPORTED, TIMED_OUT, LOST, NOT_READY = 3, 10, 15, 27


class XidListener:
    """An event set over the chips that are open, made anew when it breaks."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._chips: list[tuple[int, Any]] = []
        self._index_by_address: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        self._is_ready = threading.Event()
        self.code = 0
        """Return code of the last event call: 0 works, 3 and 13 this driver has no events."""
        self.deaf: dict[int, int] = {}
        """Chips that cannot be listened to, by index, and the return code that said so."""

    def watch(self, chips: list[tuple[int, Any]]) -> None:
        """Listen to more chips, `(index, handle)`; the first ones from when this returns."""
        self._chips += chips
        if self._thread is None and chips:
            self.code = NOT_READY
            self._thread = threading.Thread(target=self._run, name="xids", daemon=True)
            self._thread.start()
            self._is_ready.wait(READY_SECONDS)

    def _run(self) -> None:
        """Listen for ever; a broken set is dropped and made anew after a while."""
        while True:
            try:
                self._listen()
            except pynvml.NVMLError as e:
                self.code = int(e.value)
                self._is_ready.set()
                time.sleep(RETRY_SECONDS)

    def _listen(self) -> None:
        """Make a set over the chips so far, and those that come, and wait in it until it fails."""
        event_set = pynvml.nvmlEventSetCreate()
        try:
            registered = 0
            while True:
                for index, handle in self._chips[registered:]:
                    registered += 1
                    if index not in self.deaf:
                        self._register(index, handle, event_set)
                self.code = 0
                self._is_ready.set()
                self._wait(event_set)
        finally:
            pynvml.nvmlEventSetFree(event_set)

    def _register(self, index: int, handle: Any, event_set: Any) -> None:
        """Register one chip; one without events, or a lost one, leaves the set usable.

        After any other answer the set is undefined: it goes, and this chip stays out of the next.
        """
        self._index_by_address[cast(handle, c_void_p).value or 0] = index
        try:
            types = WANTED & pynvml.nvmlDeviceGetSupportedEventTypes(handle)
            if types:
                pynvml.nvmlDeviceRegisterEvents(handle, types, event_set)
            else:
                self.deaf[index] = NOT_SUPPORTED
        except pynvml.NVMLError as e:
            self.deaf[index] = int(e.value)
            if e.value not in (NOT_SUPPORTED, LOST):
                raise

    def _wait(self, event_set: Any) -> None:
        try:
            event = pynvml.nvmlEventSetWait_v2(event_set, WAIT_MILLISECONDS)
        except pynvml.NVMLError as e:
            if e.value != TIMED_OUT:
                raise
            return
        index = self._index_by_address.get(cast(event.device, c_void_p).value or 0)
        self._tell(
            {
                "type": event.eventType,
                "data": event.eventData,
                "index": index,
                "slice": [event.gpuInstanceId, event.computeInstanceId],
                "at": time.time(),
            }
        )
