"""The fake NVML library in Python, for hosts without a C compiler: what `pynvml.nvmlLib` can be.

The binding only does `getattr(library, symbol)(*arguments)` and passes ctypes objects, so an
object with functions of those names serves. It answers from the same state file as fake_nvml.c,
call for call (a contract test compares the two), but it tests neither the ABI nor what a blocked C
call does to Python. Symbols that it lacks are to the binding those of an older driver.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from chipmedic_simulator.nvml.answers import NOT_AN_INSTANCE, NOT_SUPPORTED, EventSet, Failed, State
from chipmedic_simulator.nvml.state import read_state

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NO_PERMISSION, NOT_FOUND = 0, 1, 2, 4, 6
INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, TIMEOUT, GPU_IS_LOST = 7, 9, 10, 15
VERSION_MISMATCH, UNKNOWN = 25, 999
NOT_AVAILABLE = (1 << 64) - 1
POLL_SECONDS = 0.02
HANDLE_BASE, HANDLES_PER_GPU = 0x1000, 8
"""A handle is the base plus eight times the index, plus k for the k-th MIG slice: any number but 0
serves, nobody dereferences it."""
VERSIONED = {
    "nvmlDeviceGetSramEccErrorStatus": ("sram_threshold", 0x1000068, "bThresholdExceeded"),
    "nvmlDeviceGetRepairStatus": ("repair_pending", 0x100000C, "bChannelRepairPending"),
    "nvmlDeviceGetUnrepairableMemoryFlag_v1": (
        "unrepairable_memory",
        0x1000008,
        "unrepairableMemory",
    ),
}
"""Calls that fill one number of a structure: the key, the version, the member."""

UINT, ULONGLONG = 1, 3
FIELDS: dict[int, tuple[str, int, int, int]] = {
    1: ("ecc_mode", UINT, 0, 0),
    3: ("ecc_corrected_volatile", ULONGLONG, 0, 0),
    4: ("ecc_uncorrected_volatile", ULONGLONG, 0, 0),
    5: ("ecc_corrected", ULONGLONG, 0, 0),
    6: ("ecc_uncorrected", ULONGLONG, 0, 0),
    29: ("retired_single", UINT, 0, 0),
    30: ("retired_double", UINT, 0, 0),
    31: ("retired_pending", UINT, 0, 0),
    82: ("memory_temperature", UINT, 0, 0),
    83: ("energy_millijoules", ULONGLONG, 0, 0),
    91: ("link_count", UINT, 0, 0),
    94: ("pcie_replays", UINT, 0, 0),
    142: ("remapped_corrected", UINT, 0, 0),
    143: ("remapped_uncorrected", UINT, 0, 0),
    144: ("remap_pending", UINT, 0, 0),
    145: ("remap_failed", UINT, 0, 0),
    185: ("power_milliwatts", UINT, 0, 0),
    186: ("power_milliwatts", UINT, 0, 0),
    230: ("recovery_action", UINT, 0, 0),
    161: ("replays", ULONGLONG, 4, 4),
    162: ("recoveries", ULONGLONG, 4, 4),
    163: ("crc", ULONGLONG, 4, 4),
    165: ("up", UINT, 4, 9),
    208: ("receive_errors", ULONGLONG, 5, 9),
    215: ("recovery_events", ULONGLONG, 5, 9),
    294: ("blocks", ULONGLONG, 5, 9),
    295: ("blocks_again", ULONGLONG, 5, 9),
    170: ("c2c_count", UINT, 0, 0),
    307: ("bank_remap_pending", UINT, 0, 0),
}
"""Key, type, and the NVLink generations that answer it; 0 for a field that is not of a link."""

C2C_STATE, C2C_REPLAYS = 171, 232

SYSTEM_TEXTS = {
    "nvmlSystemGetDriverVersion": "driver_version",
    "nvmlSystemGetNVMLVersion": "nvml_version",
}
DEVICE_TEXTS = {
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetSerial": "serial",
    "nvmlDeviceGetVbiosVersion": "vbios",
}
DEVICE_NUMBERS = {
    "nvmlDeviceGetMinorNumber": "minor",
    "nvmlDeviceGetPowerUsage": "power_milliwatts",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_milliwatts",
    "nvmlDeviceGetPowerManagementLimit": "power_limit_milliwatts",
    "nvmlDeviceGetPerformanceState": "performance_state",
    "nvmlDeviceGetPersistenceMode": "persistence_mode",
    "nvmlDeviceGetCurrPcieLinkGeneration": "pcie_generation",
    "nvmlDeviceGetMaxPcieLinkGeneration": "pcie_generation_max",
    "nvmlDeviceGetCurrPcieLinkWidth": "pcie_width",
    "nvmlDeviceGetMaxPcieLinkWidth": "pcie_width_max",
    "nvmlDeviceGetPcieReplayCounter": "pcie_replays",
    "nvmlDeviceGetCurrentClocksEventReasons": "throttle_reasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "throttle_reasons",
    "nvmlDeviceGetRetiredPagesPendingStatus": "retired_pending",
    "nvmlDeviceGetSupportedEventTypes": "event_types",
    "nvmlDeviceGetMaxMigDeviceCount": "mig_devices_max",
}


class StandIn:
    """A library of NVML symbols whose answers come from a state file, read again at each call."""

    def __init__(self, state_path: Path) -> None:
        self._path = state_path
        self._references = 0
        self._opened: set[int] = set()
        self._event_sets: dict[int, EventSet] = {}

    def __getattr__(self, symbol: str) -> Callable[..., int]:
        """Return a symbol as the binding looks it up; AttributeError: this library has none."""
        body = self._body(symbol)
        if body is None:
            raise AttributeError(symbol)

        def call(*arguments: Any) -> int:
            try:
                body(*arguments)
            except Failed as e:
                return e.code
            return SUCCESS

        return call

    def _body(self, symbol: str) -> Callable[..., None] | None:
        if symbol in SYSTEM_TEXTS:
            return lambda out, size: self._system_text(symbol, out, size)
        if symbol in DEVICE_TEXTS:
            return lambda device, out, size: self._device_text(symbol, device, out, size)
        if symbol in DEVICE_NUMBERS:
            return lambda device, out: self._device_number(symbol, device, out)
        if symbol in VERSIONED:
            return lambda device, out: self._versioned(symbol, device, out)
        method = self._CALLS.get(symbol)
        return None if method is None else lambda *arguments: method(self, symbol, *arguments)

    # What every call does first: hang, crash or fail as the state says.

    def _enter(self, symbol: str, gpu: int | None = None) -> State:
        began = time.monotonic()
        while True:
            state = self._load()
            if time.monotonic() - began >= state.trouble("hang", symbol, gpu):
                break
            time.sleep(POLL_SECONDS)
        if state.trouble("crash", symbol, gpu):
            os.abort()
        if code := int(state.trouble("fail", symbol, gpu)):
            raise Failed(code)
        return state

    def _load(self) -> State:
        try:
            return State(read_state(self._path))
        except OSError as e:
            raise Failed(DRIVER_NOT_LOADED) from e

    def _enter_library(self, symbol: str) -> State:
        state = self._enter(symbol)
        if self._references <= 0:
            raise Failed(UNINITIALIZED)
        return state

    def _enter_device(self, symbol: str, device: Any) -> tuple[State, int]:
        gpu, _ = _whose(device)
        if gpu < 0:
            raise Failed(INVALID_ARGUMENT)
        if self._references <= 0:
            raise Failed(UNINITIALIZED)
        state = self._enter(symbol, gpu)
        if state.is_lost(gpu):
            raise Failed(GPU_IS_LOST)
        return state, gpu

    # Calls that all look alike.

    def _system_text(self, symbol: str, out: Any, size: Any) -> None:
        _give_text(self._enter_library(symbol).text(SYSTEM_TEXTS[symbol]), out, size)

    def _device_text(self, symbol: str, device: Any, out: Any, size: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _give_text(state.need(gpu, DEVICE_TEXTS[symbol]), out, size)

    def _device_number(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _target(out).value = state.number(gpu, DEVICE_NUMBERS[symbol])

    def _versioned(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        key, version, member = VERSIONED[symbol]
        value = state.number(gpu, key)
        if _target(out).version != version:
            raise Failed(VERSION_MISMATCH)
        setattr(_target(out), member, value)

    # Library, enumeration, identity.

    def _init(self, symbol: str, _flags: Any) -> None:
        self._enter(symbol)
        self._references += 1

    def _shutdown(self, _symbol: str) -> None:
        if self._references <= 0:
            raise Failed(UNINITIALIZED)
        self._references -= 1

    def _count(self, symbol: str, out: Any) -> None:
        _target(out).value = self._enter_library(symbol).count

    def _open(self, symbol: str, index: Any, out: Any) -> None:
        gpu = int(index.value)
        if not 0 <= gpu < self._enter_library(symbol).count:
            raise Failed(INVALID_ARGUMENT)
        state = self._enter(symbol, gpu)
        if state.is_lost(gpu):
            raise Failed(GPU_IS_LOST if gpu in self._opened else UNKNOWN)
        self._opened.add(gpu)
        _point(out, HANDLE_BASE + gpu * HANDLES_PER_GPU)

    def _uuid(self, symbol: str, device: Any, out: Any, size: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _, number = _whose(device)
        text = state.slice(gpu, number).uuid if number else state.need(gpu, "uuid")
        _give_text(text, out, size)

    def _pci(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        bus_id = state.need(gpu, "pci")
        domain, bus, rest = bus_id.split(":")
        slot, function = rest.split(".")
        info = _target(out)
        info.domain, info.bus, info.device = int(domain, 16), int(bus, 16), int(slot, 16)
        info.busId = f"{info.domain:08X}:{info.bus:02X}:{info.device:02X}.{function}".encode()

    # Readings.

    def _temperature(self, symbol: str, device: Any, sensor: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        if sensor.value != 0:
            raise Failed(NOT_SUPPORTED)
        _target(out).value = state.number(gpu, "temperature")

    def _temperature_v(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        if _target(out).sensorType != 0:
            raise Failed(NOT_SUPPORTED)
        temperature = state.number(gpu, "temperature")
        if _target(out).version != 0x100000C:
            raise Failed(VERSION_MISMATCH)
        _target(out).temperature = temperature

    def _utilization(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _target(out).gpu = state.number(gpu, "utilization_percent")
        _target(out).memory = state.number(gpu, "memory_utilization_percent", 0)

    def _memory(self, symbol: str, device: Any, out: Any) -> None:
        memory = _target(out)
        if symbol.endswith("_v2") and memory.version != 0x2000028:
            raise Failed(VERSION_MISMATCH)
        state, gpu = self._enter_device(symbol, device)
        if number := _whose(device)[1]:
            one = state.slice(gpu, number)
            memory.total, memory.used, memory.free = one.total, one.used, one.total - one.used
            return
        memory.total = state.number(gpu, "memory_total_bytes")
        memory.used = state.number(gpu, "memory_used_bytes", 0)
        memory.free = memory.total - memory.used

    def _ecc_total(self, symbol: str, device: Any, error: Any, counter: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        key = ("ecc_corrected", "ecc_uncorrected")[error.value]
        _target(out).value = state.number(gpu, key if counter.value else key + "_volatile")

    def _remapped(self, symbol: str, device: Any, *outs: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        if state.number(gpu, "mig", 0):
            raise Failed(NOT_SUPPORTED)
        keys = ("remapped_corrected", "remapped_uncorrected", "remap_pending", "remap_failed")
        state.need(gpu, keys[0])
        for key, out in zip(keys, outs, strict=True):
            _target(out).value = state.number(gpu, key, 0)

    def _mig(self, symbol: str, device: Any, current: Any, pending: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _target(current).value = state.number(gpu, "mig")
        _target(pending).value = state.number(gpu, "mig_pending", state.number(gpu, "mig"))

    def _slice(self, symbol: str, device: Any, number: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        if not state.number(gpu, "mig", 0):
            raise Failed(NOT_SUPPORTED)
        place = int(number.value) + 1
        if _whose(device)[1] or place >= HANDLES_PER_GPU:
            raise Failed(INVALID_ARGUMENT)
        if state.find(gpu, f"mig.{place}") is None:
            raise Failed(NOT_FOUND)
        _point(out, HANDLE_BASE + gpu * HANDLES_PER_GPU + place)

    def _instance(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        one = state.slice(gpu, _whose(device)[1])
        is_compute = symbol == "nvmlDeviceGetComputeInstanceId"
        _target(out).value = one.compute_instance if is_compute else one.gpu_instance

    def _row_banks(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        banks = _target(out)
        banks.max, banks.high, banks.partial, banks.low, banks.none = (
            int(part) for part in state.need(gpu, "row_banks").split(",")
        )

    def _link_state(self, symbol: str, device: Any, link: int, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        _target(out).value = state.link(gpu, link, "up")

    def _link_error(self, symbol: str, device: Any, link: int, counter: int, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        if counter > 2 or state.number(gpu, "link_generation", 0) > 3:
            raise Failed(NOT_SUPPORTED)
        _target(out).value = state.link(gpu, link, ("replays", "recoveries", "crc")[counter])

    def _fabric(self, symbol: str, device: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        info = _target(out)
        fabric_state = state.number(gpu, "fabric_state")
        if symbol.endswith("V"):
            newest = state.number(gpu, "fabric_version", 3)
            if info.version not in (0x2000024, 0x3000028) or info.version >> 24 > newest:
                raise Failed(VERSION_MISMATCH)
            info.healthMask = state.number(gpu, "fabric_health_mask", 0)
            if info.version == 0x3000028:
                info.healthSummary = state.number(gpu, "fabric_health_summary", 1)
        info.state = fabric_state
        info.status = state.number(gpu, "fabric_status", 0)

    def _processes(self, symbol: str, device: Any, count: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        items = [item.split(":") for item in state.need(gpu, "processes").split(",") if item]
        number = _whose(device)[1]
        if not number and state.number(gpu, "whole_denied", 0):
            raise Failed(NO_PERMISSION)
        if number:
            one = state.slice(gpu, number)
            place = [str(one.gpu_instance), str(one.compute_instance)]
            items = [item for item in items if item[2:] == place]
        counter = _target(count)
        room = 0 if out is None else counter.value
        for row, (pid, size, *where) in zip(range(room), items, strict=False):
            out[row].pid = int(pid)
            out[row].usedGpuMemory = int(size, 0) if size != "-" else NOT_AVAILABLE
            instances = [int(part) for part in where] or [NOT_AN_INSTANCE] * 2
            out[row].gpuInstanceId, out[row].computeInstanceId = instances
        counter.value = len(items)
        if len(items) > room:
            raise Failed(INSUFFICIENT_SIZE)

    def _fields(self, symbol: str, device: Any, count: Any, out: Any) -> None:
        state, gpu = self._enter_device(symbol, device)
        fields = [_target(out)[row] for row in range(count.value)]
        for field in fields:
            field.nvmlReturn = _read_field(state, gpu, field)
        codes = [field.nvmlReturn for field in fields]
        if codes and SUCCESS not in codes:
            raise Failed(codes[0])

    # Events.

    def _create_set(self, symbol: str, out: Any) -> None:
        state = self._enter_library(symbol)
        number = HANDLE_BASE + len(self._event_sets)
        self._event_sets[number] = EventSet(state.events)
        _point(out, number)

    def _register(self, symbol: str, device: Any, types: Any, event_set: Any) -> None:
        _, gpu = self._enter_device(symbol, device)
        masks = self._event_sets[_address(event_set)].masks
        masks[gpu] = masks.get(gpu, 0) | int(types.value)

    def _wait(self, symbol: str, event_set: Any, out: Any, timeout: Any) -> None:
        until = time.monotonic() + timeout.value / 1e3
        waiting = self._event_sets[_address(event_set)]
        while True:
            event = waiting.next(self._enter_library(symbol))
            if event is not None:
                break
            if time.monotonic() >= until:
                raise Failed(TIMEOUT)
            time.sleep(POLL_SECONDS)
        data = _target(out)
        gpu, data.eventType, data.eventData = event[:3]
        handle = HANDLE_BASE + gpu * HANDLES_PER_GPU
        data.device = ctypes.cast(handle, type(data.device))
        data.gpuInstanceId, data.computeInstanceId = event[3:]

    def _free_set(self, _symbol: str, event_set: Any) -> None:
        self._event_sets.pop(_address(event_set), None)

    _CALLS: ClassVar[dict[str, Callable[..., None]]] = {
        "nvmlInitWithFlags": _init,
        "nvmlShutdown": _shutdown,
        "nvmlDeviceGetCount_v2": _count,
        "nvmlDeviceGetHandleByIndex_v2": _open,
        "nvmlDeviceGetUUID": _uuid,
        "nvmlDeviceGetPciInfo_v3": _pci,
        "nvmlDeviceGetTemperature": _temperature,
        "nvmlDeviceGetTemperatureV": _temperature_v,
        "nvmlDeviceGetUtilizationRates": _utilization,
        "nvmlDeviceGetMemoryInfo": _memory,
        "nvmlDeviceGetMemoryInfo_v2": _memory,
        "nvmlDeviceGetTotalEccErrors": _ecc_total,
        "nvmlDeviceGetRemappedRows": _remapped,
        "nvmlDeviceGetRowRemapperHistogram": _row_banks,
        "nvmlDeviceGetMigMode": _mig,
        "nvmlDeviceGetMigDeviceHandleByIndex": _slice,
        "nvmlDeviceGetGpuInstanceId": _instance,
        "nvmlDeviceGetComputeInstanceId": _instance,
        "nvmlDeviceGetNvLinkState": _link_state,
        "nvmlDeviceGetNvLinkErrorCounter": _link_error,
        "nvmlDeviceGetGpuFabricInfo": _fabric,
        "nvmlDeviceGetGpuFabricInfoV": _fabric,
        "nvmlDeviceGetComputeRunningProcesses_v2": _processes,
        "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
        "nvmlDeviceGetFieldValues": _fields,
        "nvmlEventSetCreate": _create_set,
        "nvmlDeviceRegisterEvents": _register,
        "nvmlEventSetWait_v2": _wait,
        "nvmlEventSetFree": _free_set,
    }


def _target(out: Any) -> Any:
    """Return the object behind `ctypes.byref`."""
    return out._obj  # noqa: SLF001 - ctypes offers no other way to it


def _whose(device: Any) -> tuple[int, int]:
    """Return the index of a handle's chip and the number of its slice; 0: the chip itself."""
    return divmod(_address(device) - HANDLE_BASE, HANDLES_PER_GPU)


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _point(out: Any, address: int) -> None:
    """Let the pointer behind `byref` point at an address."""
    ctypes.c_void_p.from_address(ctypes.addressof(_target(out))).value = address


def _give_text(text: str, out: Any, size: Any) -> None:
    if len(text.encode()) >= size.value:
        raise Failed(INSUFFICIENT_SIZE)
    out.value = text.encode()


def _read_field(state: State, gpu: int, field: Any) -> int:
    """Fill one field value and return its code."""
    forced = state.find(gpu, f"field_code.{field.fieldId}")
    if forced is not None:
        return int(forced, 0)
    key, kind, oldest, newest = FIELDS.get(field.fieldId, ("", 0, 0, 0))
    try:
        if field.fieldId == C2C_STATE:
            value, kind = state.c2c(gpu, field.scopeId), UINT
            return _fill(field, value, kind)
        if field.fieldId == C2C_REPLAYS:
            replays = state.find(gpu, f"c2c.{field.scopeId}.replays")
            if replays is None:
                return INVALID_ARGUMENT
            return _fill(field, int(replays, 0), ULONGLONG)
        if newest and not oldest <= state.number(gpu, "link_generation", 0) <= newest:
            return NOT_SUPPORTED
        value = state.link(gpu, field.scopeId, key) if newest else state.number(gpu, key)
    except Failed as e:
        return e.code
    return _fill(field, value, kind)


def _fill(field: Any, value: int, kind: int) -> int:
    field.valueType = kind
    field.value.ullVal = value
    field.latencyUsec = 1
    return SUCCESS
