"""The words of chipmedic as frozen values.

Everything that crosses a boundary (collector, detector, stream, store) is one of these. Time is
UNIX seconds as a float and is always passed in, never read here. Unknown is a value of its own:
what could not be read is a `Gap` with a reason, never 0, -1, NaN or "N/A".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum

from chipmedic.metric import Metric


class Severity(IntEnum):
    """The answer to one question: will the running workload fail."""

    INFO = 1
    """Recorded; no person is told."""
    WARNING = 2
    """Degraded, or about to fail."""
    CRITICAL = 3
    """The workload fails, or must leave."""


class Action(Enum):
    """What a fault asks for, mildest first."""

    NONE = "none"
    RESTART_JOB = "restart_job"
    CHECK_APP = "check_app"
    RESET_CHIP = "reset_chip"
    REBOOT_NODE = "reboot_node"
    ISOLATE_NODE = "isolate_node"
    REPLACE_CHIP = "replace_chip"
    FIX_NETWORK = "fix_network"
    FIX_HOST = "fix_host"


class Verdict(StrEnum):
    """What a check found. There is no fourth, and unknown is never ok."""

    OK = "ok"
    FAULT = "fault"
    UNKNOWN = "unknown"


class ComponentKind(StrEnum):
    """What sort of part of a node."""

    __hash__ = str.__hash__  # Enum's own is written in Python, and parts are keys everywhere

    HOST = "host"
    CHIP = "chip"
    LINK = "link"
    """A chip-to-chip link; its name is `<chip uid>/<number>`."""
    PARTITION = "partition"
    """A slice of a chip (MIG); its name is `<chip uid>/<GPU instance>/<compute instance>`."""
    PCI = "pci"
    """A device known by its PCI address alone; the agent resolves it to a chip where it can."""
    NIC = "nic"
    """A network port; InfiniBand: `<device>/<port>`."""
    DISK = "disk"
    """A file system (by mount point) or a drive."""
    JOB = "job"
    COLLECTOR = "collector"


@dataclass(frozen=True, slots=True)
class Component:
    """One part of one node, by a name that survives a reboot."""

    kind: ComponentKind
    name: str
    """Chip: its uid. PCI: `dddd:bb:dd.f`, lower case. Host: empty."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    @classmethod
    def parse(cls, text: str) -> Component:
        """Read what `str()` wrote.

        Raises:
            ValueError: the part before the colon is no kind.
        """
        kind, _, name = text.partition(":")
        return cls(ComponentKind(kind), name)


HOST = Component(ComponentKind.HOST, "")


def chip_component(uid: str) -> Component:
    """Return the component of the chip with this uid."""
    return Component(ComponentKind.CHIP, uid)


def collector_component(source: str) -> Component:
    """Return the component that stands for a collector of this node."""
    return Component(ComponentKind.COLLECTOR, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator as its vendor's tool addresses it."""

    uid: str
    """The vendor's UUID or serial, else `<vendor>-<pci>`; the only key."""
    vendor: str
    model: str
    index: int
    """The tool's own number. It may change at boot: show it, never key on it."""
    die: int = 0
    serial: str | None = None
    pci: str | None = None
    """`dddd:bb:dd.f`, lower case."""
    kernel_names: tuple[str, ...] = ()
    """What the driver calls it in lines without a PCI address: `npu:3`, `accel3`, `xpu3`."""

    @property
    def component(self) -> Component:
        """The component that readings and faults of this chip name."""
        return chip_component(self.uid)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value that a collector saw, in the base unit of its metric."""

    component: Component
    metric: Metric
    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.component} {self.metric}: {self.value} is no reading")


class GapReason(StrEnum):
    """Why a value is not there."""

    UNSUPPORTED = "unsupported"
    """This part, driver or mode does not offer it; never an alarm."""
    DENIED = "denied"
    TIMED_OUT = "timed_out"
    MALFORMED = "malformed"
    MISSING = "missing"
    """A component that the inventory knows did not appear at all."""
    FAILED = "failed"
    """The source answered with an error; `detail` holds its words."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A value or a component that could not be read, and why."""

    component: Component
    metric: Metric | None
    """None: nothing of this component could be read."""
    reason: GapReason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a source said once: a kernel line, an Xid, a tool's error code."""

    component: Component
    code: str
    """`xid:79`, `ascend:80E01801`, `kernel:host.oom`: vendor or source, colon, the code."""
    message: str
    """The raw words, for evidence."""
    at: float
    id: str = ""
    """Identity where the source has one (kernel log: `<boot id>/<sequence>`); else empty."""
    kind: str | None = None
    """What the source's text itself decided (Fatal or Nonfatal, say); None: the catalog decides."""
    severity: Severity | None = None
    action: Action | None = None
    quiet_seconds: float | None = None
    """Where a source says this for as long as it is true: after how much silence it is over. None:
    it is of one moment."""
    device: str | None = None
    """What a source calls the part where it knows no better `component` than the host: the agent
    resolves it by `Chip.kernel_names`."""


@dataclass(frozen=True, slots=True)
class ChipProcess:
    """A process that holds a chip."""

    chip: str
    """The chip's uid."""
    pid: int
    memory_bytes: int | None = None
    partition: str | None = None
    """The slice of the chip that it runs in, in words, where the chip is cut into some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One timed execution of a collector, and what came of it."""

    source: str
    """The collector's entry-point name: `nvidia`, `kernel_log`, ..."""
    at: float
    chips: tuple[Chip, ...] = ()
    readings: tuple[Reading, ...] = ()
    events: tuple[Event, ...] = ()
    gaps: tuple[Gap, ...] = ()
    processes: tuple[ChipProcess, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    """Filled by the agent's own source `jobs`; no collector of a vendor sets it."""
    is_inventory: bool = False
    """True: `chips` is all that this source could see, so a known chip that is absent is lost."""
    asks_driver: bool = False
    """Set by the agent's scanner: this source asks the driver of chips, so that its long silence is
    the driver's."""
    _values: dict[Metric, dict[Component, float]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """The readings by metric, once somebody has asked for one: every detector does."""

    def values(self, metric: Metric) -> Mapping[Component, float]:
        """Return the readings of one metric by component; a silent component is not in it."""
        if self.readings and not self._values:
            for reading in self.readings:
                self._values.setdefault(reading.metric, {})[reading.component] = reading.value
        return self._values.get(metric, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An open condition on a component. Its identity on a node is (component, kind)."""

    component: Component
    kind: str
    """`domain.condition`, one of `chipmedic.faults.kinds.KINDS`."""
    severity: Severity
    action: Action
    since: float
    summary: str
    """One sentence in English, numbers included."""
    source: str
    """The check that saw it: a collector's name, or `jobs`."""
    codes: tuple[str, ...] = ()
    """Vendor codes behind it, first seen first."""
    evidence: tuple[str, ...] = ()
    """Raw lines or readings, newest last; bounded by `EVIDENCE_MAX`."""
    count: int = 1
    """How often it was seen since it was raised."""
    job: str | None = None
    """The job that the fault names itself (a job fault), else None."""

    @property
    def key(self) -> tuple[Component, str]:
        """What makes two sightings one fault."""
        return (self.component, self.kind)


EVIDENCE_MAX = 8
"""Evidence lines kept per fault: the first ones tell the cause, the newest the present."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A condition that was not open has begun."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Updated:
    """An open fault got worse or milder, gained a code or evidence, or was seen again."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Cleared:
    """An open fault has ended."""

    fault: Fault
    at: float
    reason: str = ""
    """`rebooted`, `expired`, or what was seen; empty: the condition is gone."""


Change = Raised | Updated | Cleared


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which check ran on a node, when, and with which verdict."""

    check: str
    """The source's name, as in `Fault.source`."""
    at: float
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What one node knows of one job that runs on its chips."""

    job: str
    """`slurm:1234`, `kubernetes:<pod uid>`, `torchrun:<run id>`, `local:<name>`."""
    at: float
    chips: tuple[str, ...] = ()
    """Chips of this node that the job's processes hold, by uid."""
    pids: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    step: int | None = None
    step_at: float | None = None
    """When `step` last grew."""
    phase: str | None = None
    """`init`, `train`, `checkpoint`, `evaluate`, or a word of the job's own."""
    checkpoint_step: int | None = None
    attempt: int = 0
    """Which start of the job this is (SLURM_RESTART_COUNT, TORCHELASTIC_RESTART_COUNT)."""
    user: str | None = None
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
