"""The state file that the fake library and its stand-in read at each call.

Lines of `key=value`; numbers in base 10 or 0x. What a key means:

    count                          how many chips enumeration counts, lost ones too
    driver_version nvml_version cuda_version
    gpu.<n>.<key>, gpu.*.<key>     one chip, all chips; the first wins. An absent key is a call not
    supported
        uuid serial name pci minor vbios
        temperature memory_temperature power_milliwatts power_limit_milliwatts utilization_percent
        memory_total_bytes memory_used_bytes throttle_reasons recovery_action
        ecc_corrected ecc_uncorrected (…_volatile) retired_single retired_double retired_pending
        remapped_corrected remapped_uncorrected remap_pending remap_failed
        pcie_generation pcie_generation_max pcie_width pcie_width_max pcie_replays
        link_count link_generation link.<l>.<key>, link.*.<key>: up replays recoveries crc
            receive_errors recovery_events blocks blocks_again
        c2c_count c2c.<l>.up       links to the CPU; up unless it is said
        c2c.<l>.replays            absent: a driver that counts none
        row_banks                  the row remapper's histogram: `<max>,<high>,<some>,<low>,<none>`
        sram_threshold repair_pending unrepairable_memory bank_remap_pending
        fabric_state fabric_status fabric_health_mask fabric_health_summary event_types
        fabric_version             the newest structure that this driver knows (3)
        mig mig_pending mig_devices_max
        mig.<k>                    the k-th slice, from 1:
            `<uuid>,<GPU instance>,<compute instance>,<bytes used>,<bytes>`
        processes                  `<pid>:<bytes>,<pid>:-`, in a slice `<pid>:<bytes>:<gi>:<ci>`
        whole_denied               1: the process list of the whole chip is denied, its slices' not
        lost                       1: open handles answer 15, a new one 999
        field_code.<id>            the return code of one field in GetFieldValues
    fail.<symbol>[.<n>]            the return code of a call, of one chip or all
    hang.<symbol>[.<n>]            seconds that a call blocks; ends early when the key goes
    crash.<symbol>[.<n>]           1: the call aborts the process
    event.count, event.<k>         the k-th event, from 1: `<n>,<type>,<data>`, in a slice
                                   `<n>,<type>,<data>,<gi>,<ci>`

An edit is a read, a change and a rename under a lock, so a reader never sees half of it and two
editors never lose a change.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATE_VARIABLE = "CHIPMEDIC_SIMULATOR_NVML_STATE"
EVENT_XID = 8
EVENTS_KEPT = 1000
GIB = 1 << 30


def read_state(path: Path) -> dict[str, str]:
    """Return the keys and values of a state file.

    Raises:
        OSError: it cannot be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key: value for key, separator, value in pairs if separator}


@dataclass(frozen=True, slots=True)
class SimulatedNvml:
    """The chips of one simulated host; every method is one edit of the state file."""

    path: Path

    @contextmanager
    def edit(self) -> Iterator[dict[str, str]]:
        """Yield the state to be changed, and write it when the block ends."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = read_state(self.path) if self.path.exists() else {}
            yield state
            fresh = self.path.with_suffix(f".{os.getpid()}.new")
            fresh.write_text(
                "".join(f"{key}={value}\n" for key, value in state.items()), encoding="utf-8"
            )
            fresh.rename(self.path)

    def set(self, gpu: int | None, **values: object) -> None:
        """Set keys of one chip, or of all (None). Two underscores stand for the dot of a key."""
        with self.edit() as state:
            for key, value in values.items():
                state[_key(gpu, key.replace("__", "."))] = str(value)

    def set_link(self, gpu: int, link: int, **values: object) -> None:
        """Set keys of one NVLink: `up`, `replays`, `recoveries` and so on."""
        self.set(gpu, **{f"link__{link}__{key}": value for key, value in values.items()})

    def cut(self, gpu: int, *slices: tuple[int, int, int, int]) -> list[str]:
        """Cut a chip into MIG slices: GPU instance, compute instance, bytes used, bytes.

        Returns their UUIDs.
        """
        uuids = []
        self.set(gpu, mig=1, mig_pending=1)
        for number, one in enumerate(slices, 1):
            name = f"MIG-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{gpu}.{one[0]}.{one[1]}')}"
            self.set(gpu, **{f"mig__{number}": ",".join(map(str, (name, *one)))})
            uuids.append(name)
        return uuids

    def forget(self, *keys: str) -> None:
        """Take keys out, by their full names; absent ones are no matter."""
        with self.edit() as state:
            for key in keys:
                state.pop(key, None)

    def lose(self, gpu: int) -> None:
        """Let a chip fall off the bus: 15 for open handles, 999 for new ones."""
        self.set(gpu, lost=1)

    def restore(self, gpu: int) -> None:
        """Bring a lost chip back, as a reboot might."""
        self.forget(_key(gpu, "lost"))

    def fail(self, symbol: str, code: int, gpu: int | None = None) -> None:
        """Let a call answer a return code; 0 lets it work again."""
        self._trouble("fail", symbol, gpu, code)

    def hang(self, symbol: str, seconds: float, gpu: int | None = None) -> None:
        """Let a call block for some seconds; 0 lets go of those that hang."""
        self._trouble("hang", symbol, gpu, seconds)

    def crash(self, symbol: str, gpu: int | None = None, *, is_on: bool = True) -> None:
        """Let a call abort its process."""
        self._trouble("crash", symbol, gpu, int(is_on))

    def emit(
        self,
        gpu: int,
        data: int,
        event_type: int = EVENT_XID,
        *,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Queue an event for every event set that is open now: by default the Xid `data`.

        `place`: the GPU instance and the compute instance that it is of.
        """
        with self.edit() as state:
            number = int(state.get("event.count", "0")) + 1
            event = (gpu, event_type, data, *(place or ()))
            state[f"event.{number}"] = ",".join(map(str, event))
            state["event.count"] = str(number)
            state.pop(f"event.{number - EVENTS_KEPT}", None)

    def _trouble(self, what: str, symbol: str, gpu: int | None, value: float) -> None:
        key = f"{what}.{symbol}" if gpu is None else f"{what}.{symbol}.{gpu}"
        with self.edit() as state:
            if value:
                state[key] = f"{value:g}"
            else:
                state.pop(key, None)


def _key(gpu: int | None, key: str) -> str:
    return f"gpu.{'*' if gpu is None else gpu}.{key}"


def create(
    path: Path, *, gpus: int = 8, profile: str = "h100", node: str = "node"
) -> SimulatedNvml:
    """Write the state of a healthy host and return it; identities follow from the node's name.

    `profile` is one of `PROFILES`.
    """
    simulated = SimulatedNvml(path)
    with simulated.edit() as state:
        state.clear()
        state |= {"count": str(gpus), "event.count": "0", **_VERSIONS}
        state |= {
            _key(None, key): value for key, value in {**_HEALTHY, **PROFILES[profile]}.items()
        }
        for gpu in range(gpus):
            state |= {_key(gpu, key): value for key, value in _identity(node, gpu).items()}
    return simulated


def _identity(node: str, gpu: int) -> dict[str, str]:
    unique = uuid.uuid5(uuid.NAMESPACE_DNS, f"{gpu}.{node}.simulator.chipmedic")
    return {
        "uuid": f"GPU-{unique}",
        "serial": str(1_320_000_000_000 + unique.int % 999_999_999),
        "pci": f"0000:{0x1A + 0x11 * gpu % 0xE0:02x}:00.0",
        "minor": str(gpu),
        "temperature": str(37 + gpu % 5),
    }


_VERSIONS = {
    "driver_version": "570.158.01",
    "nvml_version": "12.570.158.01",
    "cuda_version": "12080",
}
_HEALTHY: Mapping[str, str] = {
    "utilization_percent": "0",
    "power_milliwatts": "71230",
    "memory_used_bytes": "0",
    "throttle_reasons": "1",
    "recovery_action": "0",
    "ecc_mode": "1",
    "ecc_corrected": "0",
    "ecc_uncorrected": "0",
    "ecc_corrected_volatile": "0",
    "ecc_uncorrected_volatile": "0",
    "pcie_width": "16",
    "pcie_width_max": "16",
    "pcie_replays": "0",
    "persistence_mode": "1",
    "compute_mode": "0",
    "performance_state": "0",
    "vbios": "96.00.A5.00.01",
    "event_types": str(0x9F),
    "processes": "",
}
_ROW_REMAP: Mapping[str, str] = {
    "remapped_corrected": "0",
    "remapped_uncorrected": "0",
    "remap_pending": "0",
    "remap_failed": "0",
}
_MIG: Mapping[str, str] = {"mig": "0", "mig_pending": "0", "mig_devices_max": "7"}
_LINK_ERRORS: Mapping[str, str] = {
    "link.*.up": "1",
    "link.*.replays": "0",
    "link.*.recoveries": "0",
    "link.*.crc": "0",
}
_FABRIC: Mapping[str, str] = {"fabric_state": "3", "fabric_status": "0", "fabric_health_mask": "0"}

PROFILES: Mapping[str, Mapping[str, str]] = {
    "v100": {
        "name": "Tesla V100-SXM2-32GB",
        "memory_total_bytes": str(32 * GIB),
        "power_limit_milliwatts": "300000",
        "pcie_generation": "3",
        "pcie_generation_max": "3",
        "retired_single": "0",
        "retired_double": "0",
        "retired_pending": "0",
        "link_count": "6",
        "link_generation": "2",
        **_LINK_ERRORS,
    },
    "a100": {
        "row_banks": "640,0,0,0,0",
        "sram_threshold": "0",
        **_MIG,
        "name": "NVIDIA A100-SXM4-80GB",
        "memory_total_bytes": str(80 * GIB),
        "memory_temperature": "41",
        "power_limit_milliwatts": "400000",
        "pcie_generation": "4",
        "pcie_generation_max": "4",
        "link_count": "12",
        "link_generation": "3",
        **_ROW_REMAP,
        **_LINK_ERRORS,
    },
    "h100": {
        "row_banks": "2560,0,0,0,0",
        "sram_threshold": "0",
        **_MIG,
        "name": "NVIDIA H100 80GB HBM3",
        "memory_total_bytes": str(80 * GIB),
        "memory_temperature": "44",
        "power_limit_milliwatts": "700000",
        "pcie_generation": "5",
        "pcie_generation_max": "5",
        "link_count": "18",
        "link_generation": "4",
        **_ROW_REMAP,
        **_LINK_ERRORS,
        **_FABRIC,
    },
    "b200": {
        "row_banks": "3840,0,0,0,0",
        "sram_threshold": "0",
        "repair_pending": "0",
        "unrepairable_memory": "0",
        "bank_remap_pending": "0",
        **_MIG,
        "name": "NVIDIA B200",
        "memory_total_bytes": str(180 * GIB),
        "memory_temperature": "46",
        "power_limit_milliwatts": "1000000",
        "pcie_generation": "6",
        "pcie_generation_max": "6",
        "link_count": "18",
        "link_generation": "5",
        "link.*.up": "1",
        "link.*.receive_errors": "0",
        "link.*.recovery_events": "0",
        "link.*.blocks": "0",
        "link.*.blocks_again": "0",
        **_ROW_REMAP,
        **_FABRIC,
    },
    "l40s": {
        "row_banks": "192,0,0,0,0",
        "sram_threshold": "0",
        "name": "NVIDIA L40S",
        "memory_total_bytes": str(48 * GIB),
        "power_limit_milliwatts": "350000",
        "pcie_generation": "4",
        "pcie_generation_max": "4",
        "event_types": "0",
        **_ROW_REMAP,
    },
}
"""Chips of some generations; capacities are round figures, not what a card of that name reports."""
