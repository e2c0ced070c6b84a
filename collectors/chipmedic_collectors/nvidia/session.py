"""One open connection to NVML and the chips seen through it; lives in the child process.

Opened once and held: initialising at each poll is NVML's main cost, and where persistence mode is
off it initialises the GPU too. Nothing here judges: an answer is the return code with the raw
value.

Imported by the child, so it imports the binding and the smallest part of the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from ctypes import Structure, byref
from typing import Any, Protocol

import pynvml

Answer = tuple[int, Any]
"""Return code and value; the value is None unless the code is 0."""

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT = 0, 1, 2
NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH = 3, 13, 25
GPU_IS_LOST, DEPRECATED = 15, 26
ABSENT = (NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH, DEPRECATED)
"""This chip, mode, library or binding does not offer the call."""
UNREADABLE = -1
"""Our own code: the call worked and the binding could not make sense of what it wrote."""

UNSUPPORTED_SECONDS = 3600.0
"""How long "not supported" is believed: MIG mode and the driver may change under us."""
INIT_RETRY_SECONDS = 30.0
"""A failed initialisation may start nvidia-modprobe, so it is not repeated at each poll."""


class Lost(Exception):
    """The chip answered that it is off the bus; to ask it more is in vain."""


class Trail(Protocol):
    """Where the call that is about to be made is noted, for whoever finds us hanging in it."""

    def note(self, symbol: str, index: int | None) -> None:
        """Note a call; it must cost next to nothing."""


class Session:
    """NVML, opened once."""

    def __init__(self, trail: Trail, *, init_retry_seconds: float = INIT_RETRY_SECONDS) -> None:
        self._trail = trail
        self._init_retry_seconds = init_retry_seconds
        self._init: Answer = (UNINITIALIZED, None)
        self._next_init_at = 0.0
        self._chips: dict[int, OpenChip] = {}
        self._failed: dict[int, tuple[int, int]] = {}
        self.timings: dict[str, list[int]] = {}
        """Symbol: calls, microseconds in all, the slowest in microseconds."""

    @property
    def chips(self) -> dict[int, OpenChip]:
        """The chips that have a handle, by index."""
        return self._chips

    def open(self) -> Answer:
        """Initialise NVML unless that is done or was tried a moment ago; return how it went."""
        if self._init[0] != SUCCESS and time.monotonic() >= self._next_init_at:
            self._init = self.call("nvmlInit", None)
            self._next_init_at = time.monotonic() + self._init_retry_seconds
        return self._init

    def system(self) -> dict[str, Answer]:
        """Return the versions of the driver and of the library."""
        return {
            "driver_version": self.call("nvmlSystemGetDriverVersion", None),
            "nvml_version": self.call("nvmlSystemGetNVMLVersion", None),
        }

    def enumerate(self, *, retry: bool) -> tuple[Answer, dict[int, tuple[int, int]]]:
        """Open the chips that are not open yet, each by its index: a dead one hides no other.

        Returns the count, and for each index without a handle the return code and how often it
        came. To open a dead chip may block for long, so after the second failure it takes `retry`.
        """
        count = self.call("nvmlDeviceGetCount", None)
        for index in range(count[1] if count[0] == SUCCESS else 0):
            code, times = self._failed.get(index, (SUCCESS, 0))
            if index not in self._chips and (times < 2 or retry):
                self._open_chip(index, code, times)
        return count, dict(self._failed)

    def _open_chip(self, index: int, last_code: int, times: int) -> None:
        code, handle = self.call("nvmlDeviceGetHandleByIndex", index, index)
        if code == SUCCESS:
            self._chips[index] = OpenChip(self, index, handle)
            self._failed.pop(index, None)
        else:
            self._failed[index] = (code, times + 1 if code == last_code else 1)

    def call(self, symbol: str, index: int | None, *arguments: Any) -> Answer:
        """Call the binding, timed and noted."""
        function = getattr(pynvml, symbol, None)
        if function is None:  # a binding older than the call
            return (FUNCTION_NOT_FOUND, None)
        self._trail.note(symbol, index)
        began = time.perf_counter_ns()
        try:
            return (SUCCESS, function(*arguments))
        except pynvml.NVMLError as e:
            return (int(e.value), None)
        except pynvml.NVMLLibraryMismatchError:  # its own words for a symbol that is missing
            return (FUNCTION_NOT_FOUND, None)
        except UnicodeDecodeError:
            return (UNREADABLE, None)
        finally:
            self._record(symbol, (time.perf_counter_ns() - began) // 1000)
            self._trail.note("", None)

    def _record(self, symbol: str, microseconds: int) -> None:
        timing = self.timings.setdefault(symbol, [0, 0, 0])
        timing[0] += 1
        timing[1] += microseconds
        timing[2] = max(timing[2], microseconds)


class OpenChip:
    """A chip by its handle, which stays valid when the chip is lost (it then answers 15)."""

    def __init__(self, session: Session, index: int, handle: Any) -> None:
        self._session = session
        self.index = index
        self.handle = handle
        self.link_errors: tuple[int, ...] | None = None
        """Field ids that count its link errors; empty: the old call; None: not known yet."""
        self.is_cut = False
        """True: MIG is on."""
        self.slices: dict[tuple[int, int], OpenChip] = {}
        """Its slices by GPU instance and compute instance, as they were last listed."""
        self._unsupported: dict[tuple[Any, ...], tuple[int, float]] = {}
        self._identity: dict[str, Answer] = {}

    def ask(self, symbol: str, *arguments: Any, into: Structure | None = None) -> Answer:
        """Call with this chip's handle; one that it does not support is not made again for an hour.

        `into` is the structure that the call fills, and then the answer's value.

        Raises:
            Lost: the chip is off the bus.
        """
        key = (symbol, *arguments, type(into))
        known = self._known_unsupported(key)
        if known is not None:
            return known
        last = () if into is None else (byref(into),)
        code, value = self._session.call(symbol, self.index, self.handle, *arguments, *last)
        self._judge(key, code)
        return (code, value if into is None or code != SUCCESS else into)

    def call(self, symbol: str, *arguments: Any) -> Answer:
        """Call with this chip's handle, also when it did not support that a moment ago.

        Raises:
            Lost: the chip is off the bus.
        """
        answer = self._session.call(symbol, self.index, self.handle, *arguments)
        if answer[0] == GPU_IS_LOST:
            raise Lost
        return answer

    def slice(self, handle: Any) -> OpenChip:
        """Return a slice of this chip, which is asked as a chip is."""
        return OpenChip(self._session, self.index, handle)

    def forget_unsupported(self) -> None:
        """Ask again what this chip did not support: its mode has changed."""
        self._unsupported.clear()

    def fields(self, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Answer]:
        """Read many fields, `(id, scope)`, in one call.

        The call succeeds when any field does, so each has its own code.

        Raises:
            Lost: the chip is off the bus.
        """
        answers: dict[tuple[int, int], Answer] = {}
        asked = []
        for field in wanted:
            known = self._known_unsupported(field)
            if known is None:
                asked.append(field)
            else:
                answers[field] = known
        if not asked:
            return answers
        code, values = self._session.call(
            "nvmlDeviceGetFieldValues", self.index, self.handle, asked
        )
        for number, field in enumerate(asked):
            answers[field] = (code, None) if code != SUCCESS else _field(values[number])
            self._judge(field, answers[field][0])
        return answers

    def identity(self) -> dict[str, Answer]:
        """Return what names the chip; asked until it has answered, then remembered."""
        if self._identity.get("uuid", (UNREADABLE, None))[0] != SUCCESS:
            self._identity = {
                "uuid": self.ask("nvmlDeviceGetUUID"),
                "serial": self.ask("nvmlDeviceGetSerial"),
                "name": self.ask("nvmlDeviceGetName"),
                "pci": self._pci(),
            }
        return self._identity

    def _pci(self) -> Answer:
        code, info = self.ask("nvmlDeviceGetPciInfo")
        if code != SUCCESS:
            return (code, None)
        try:
            bus_id = info.busId  # decoded on access, by some versions of the binding
            return (code, bus_id if isinstance(bus_id, str) else bus_id.decode())
        except UnicodeDecodeError:
            return (UNREADABLE, None)

    def _known_unsupported(self, key: tuple[Any, ...]) -> Answer | None:
        code, until = self._unsupported.get(key, (SUCCESS, 0.0))
        return (code, None) if time.monotonic() < until else None

    def _judge(self, key: tuple[Any, ...], code: int) -> None:
        if code == GPU_IS_LOST:
            raise Lost
        if code in ABSENT:
            self._unsupported[key] = (code, time.monotonic() + UNSUPPORTED_SECONDS)


VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of the value union, by `valueType`."""


def _field(value: Any) -> Answer:
    """Read one field value by the type that it says it has."""
    if value.nvmlReturn != SUCCESS:
        return (int(value.nvmlReturn), None)
    if not 0 <= value.valueType < len(VALUE_MEMBERS):
        return (UNREADABLE, None)
    return (SUCCESS, getattr(value.value, VALUE_MEMBERS[value.valueType]))
