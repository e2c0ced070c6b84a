"""The child's answer as a scan: which chips are there, which are lost, what is wrong. Pure.

`translate` takes what was known before (`Memory`) and returns what is known now, so a recorded
night replays. The rules, each learnt from a tool that lies:

- a chip that cannot be opened hides no other, and is named from what was known, or by its PCI
  address;
- a known chip that is absent, or answers 15, is present 0 and not among the chips; one that only
  answers 999 is neither present nor gone until it has done so twice in a row;
- a driver that cannot be reached says nothing about chips: gaps, and no inventory;
- what is wrong is told in every scan for as long as it is so, so its end is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chipmedic.faults.kinds import KINDS
from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Chip,
    ChipProcess,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Reading,
    Scan,
)
from chipmedic_collectors.nvidia import codes
from chipmedic_collectors.nvidia.naming import identify, name_failed, pci_component
from chipmedic_collectors.nvidia.partitions import (
    Partition,
    partitions,
    processes_of,
    words_of,
)
from chipmedic_collectors.nvidia.readings import read_chip
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer, ChipAnswers, FailedChip, Reply
from chipmedic_collectors.nvidia.retries import Blocks, read_retries
from chipmedic_collectors.nvidia.troubles import Troubles

SOURCE = "nvidia"
DRIVER_GRACE_SECONDS = 60.0
"""A driver that has not worked yet may be on its way: the host is starting."""
RESET_WANTED = 1
"""What field 230 answers when the driver wants a reset; the code 16 says the same."""
_QUIET_SECONDS = 30.0
"""A return code is told in each scan; one that has not come for so long is over."""
NOT_ASKED: Answer = (codes.NOT_SUPPORTED, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What earlier scans of this run of the agent have left."""

    chips: Mapping[str, Chip] = field(default_factory=dict)
    """Every chip that was seen and not exchanged, by uid; those that are here come first."""
    processes: Mapping[str, tuple[ChipProcess, ...]] = field(default_factory=dict)
    """The last list of each chip: it is asked for less often than scans are made."""
    partitions: Mapping[str, list[Partition]] = field(default_factory=dict)
    """The slices of each chip that MIG has cut, as they were last listed."""
    troubles: Mapping[str, Troubles] = field(default_factory=dict)
    """What stands against each chip that is here."""
    blocks: Mapping[Component, Blocks] = field(default_factory=dict)
    """What each link had sent when its share of retries was last told."""
    trouble_since: float | None = None
    """Since when NVML cannot be reached."""

    def words_of(self, uid: str, place: object) -> str | None:
        """Return the words for a slice of a chip, `[GPU instance, compute instance]`, if any."""
        return words_of(place, self.partitions.get(uid, []))

    def chip_at(self, index: int | None) -> Chip | None:
        """Return the chip that had this index last."""
        return next((chip for chip in self.chips.values() if chip.index == index), None)


def translate(
    reply: Reply, memory: Memory, *, at: float, pci_addresses: Sequence[str] = ()
) -> tuple[Scan, Memory]:
    """Turn an answer into a scan. `pci_addresses` are the GPUs that PCI shows, in bus order."""
    work = _Translation(memory, at, pci_addresses)
    code = reply.init if reply.init != SUCCESS else reply.count[0]
    if code != SUCCESS:
        work.take_driver_trouble(code)
        is_inventory = False
    else:
        is_inventory = work.take_chips(reply)
        work.take_event_set(reply)
    return work.scan(is_inventory=is_inventory), work.memory()


class _Translation:
    """One translation under way."""

    def __init__(self, memory: Memory, at: float, pci_addresses: Sequence[str]) -> None:
        self._at = at
        self._pci_addresses = pci_addresses
        self._known = dict(memory.chips)
        self._processes = dict(memory.processes)
        self._partitions = dict(memory.partitions)
        self._blocks = dict(memory.blocks)
        self._earlier_troubles = memory.troubles
        self._troubles: dict[str, Troubles] = {}
        self._earlier_trouble_since = memory.trouble_since
        self._trouble_since: float | None = None
        self._seen: dict[str, Chip] = {}
        """Chips that are here now."""
        self._gone: set[str] = set()
        """Chips of which this answer itself says that they are lost."""
        self._readings: list[Reading] = []
        self._events: list[Event] = []
        self._gaps: list[Gap] = []

    def scan(self, *, is_inventory: bool) -> Scan:
        """Return the scan so far."""
        return Scan(
            source=SOURCE,
            at=self._at,
            chips=tuple(sorted(self._seen.values(), key=lambda chip: chip.index)),
            readings=tuple(self._readings),
            events=tuple(self._events),
            gaps=tuple(self._gaps),
            processes=tuple(p for uid in self._seen for p in self._processes.get(uid, ())),
            is_inventory=is_inventory,
        )

    def memory(self) -> Memory:
        """Return what the next scan should know."""
        return Memory(
            chips=self._seen | {u: c for u, c in self._known.items() if u not in self._seen},
            processes=self._processes,
            partitions=self._partitions,
            blocks=self._blocks,
            troubles=self._troubles,
            trouble_since=self._trouble_since,
        )

    def take_driver_trouble(self, code: int) -> None:
        """Say that NVML cannot be reached: every chip of this host is unknown, none is lost."""
        since = self._earlier_trouble_since
        self._trouble_since = self._at if since is None else min(since, self._at)
        named = {chip.pci for chip in self._known.values()}
        components = [chip.component for chip in self._known.values()]
        components += [pci_component(pci) for pci in self._pci_addresses if pci not in named]
        for component in components or [HOST]:
            self._gap(component, codes.gap_reason(code), codes.words(code))
        is_starting = not self._known and self._at - self._trouble_since < DRIVER_GRACE_SECONDS
        if code in codes.DRIVER_KINDS and not is_starting:
            self._tell(HOST, code, codes.DRIVER_KINDS[code])

    def take_chips(self, reply: Reply) -> bool:
        """Take all chips; return whether a known one that is absent is truly lost."""
        taken = [self._take_chip(chip) for chip in reply.chips]
        unnamed = [chip for chip in taken if chip is not None]
        failed = sorted([*reply.failed, *unnamed], key=lambda chip: chip.index)
        components = name_failed(
            failed,
            known=self._known,
            seen=self._seen,
            count=reply.count[1],
            pci_addresses=self._pci_addresses,
        )
        is_clear = [
            self._take_failed(chip, component)
            for chip, component in zip(failed, components, strict=True)
        ]
        if all(is_clear):
            self._name_missing()
        if not failed:
            self._name_unlisted()
        return all(is_clear)

    def take_event_set(self, reply: Reply) -> None:
        """Say which Xids do not come through NVML; the kernel log has them too."""
        deaf = {f" for GPU {index}": code for index, code in sorted(reply.deaf.items())}
        for whose, code in ({"": reply.events} | deaf).items():
            if code not in (SUCCESS, codes.GPU_IS_LOST):
                detail = f"no Xid events from NVML{whose}: {codes.words(code)}"
                self._gap(HOST, codes.gap_reason(code), detail)

    def _take_chip(self, answers: ChipAnswers) -> FailedChip | None:
        """Take an open chip; return it as one that failed when it does not say who it is."""
        chip = identify(answers, self._known)
        if chip is None:
            trouble = [code for code, _ in answers.identity.values() if code != SUCCESS]
            code = codes.GPU_IS_LOST if answers.is_lost else [*trouble, codes.UNREADABLE][0]
            return FailedChip(answers.index, code, 1)
        self._settle(chip)
        if answers.is_lost:
            self._known[chip.uid] = chip
            self._lose(chip.component, codes.GPU_IS_LOST)
            return None
        self._seen[chip.uid] = chip
        earlier = self._earlier_troubles.get(chip.uid, Troubles())
        troubles = self._troubles[chip.uid] = earlier.after(answers.answers)
        self._tell_troubles(chip, troubles)
        self._judge_presence(chip, answers.answers)
        self._read(chip, answers.answers, wants_reset=codes.RESET_REQUIRED in troubles.codes)
        return None

    def _settle(self, chip: Chip) -> None:
        """Forget what was known in a chip's place: it was exchanged, or has told its name late."""
        former = [uid for uid, known in self._known.items() if chip.pci and known.pci == chip.pci]
        for uid in former:
            if uid != chip.uid:
                del self._known[uid]

    def _read(self, chip: Chip, answers: Mapping[str, Answer], *, wants_reset: bool) -> None:
        code, verdict = answers.get("recovery_action", NOT_ASKED)
        if wants_reset and (code != SUCCESS or verdict == 0):
            answers = {**answers, "recovery_action": (SUCCESS, RESET_WANTED)}
        read = read_chip(chip.uid, answers)
        self._readings += read.readings
        self._gaps += read.gaps
        if "link_blocks" in answers:
            self._take_retries(chip, answers["link_blocks"])
        self._take_processes(chip, answers)

    def _take_retries(self, chip: Chip, answer: Answer) -> None:
        told, starts = read_retries(chip.uid, answer, self._blocks)
        self._blocks |= starts
        self._readings += [one for one in told if isinstance(one, Reading)]
        self._gaps += [one for one in told if isinstance(one, Gap)]

    def _judge_presence(self, chip: Chip, answers: Mapping[str, Answer]) -> None:
        """Say that a chip is here when any call of it worked; when none did, nobody knows."""
        answered = [code for code, _ in answers.values()]
        if SUCCESS in answered:
            self._readings.append(Reading(chip.component, Metric.PRESENT, 1.0))
        elif answered:
            self._gap(chip.component, codes.gap_reason(answered[0]), codes.words(answered[0]))

    def _tell_troubles(self, chip: Chip, troubles: Troubles) -> None:
        for code in sorted(troubles.codes):
            self._tell(chip.component, code, codes.CHIP_KINDS[code])
        if troubles.fabric is not None:
            self._events.append(
                Event(
                    component=chip.component,
                    code="nvml:fabric",
                    message=troubles.fabric,
                    at=self._at,
                    quiet_seconds=_QUIET_SECONDS,
                )
            )

    def _take_processes(self, chip: Chip, answers: Mapping[str, Answer]) -> None:
        if "mig" in answers:
            self._partitions[chip.uid] = partitions(answers["mig"])
        if "processes" not in answers:
            return
        code, rows = answers["processes"]
        self._processes.pop(chip.uid, None)
        if code == SUCCESS:
            slices = self._partitions.get(chip.uid, [])
            self._processes[chip.uid] = processes_of(chip.uid, rows, slices)

    def _take_failed(self, chip: FailedChip, component: Component) -> bool:
        """Take a chip that cannot be opened; return False when a chip may be here unnamed."""
        is_lasting = chip.code == codes.UNKNOWN and chip.times >= 2
        if chip.code == codes.GPU_IS_LOST or is_lasting:
            self._lose(component, chip.code)
            if is_lasting:
                self._tell(component, chip.code, "chip.lost")
            return True
        self._gap(component, codes.gap_reason(chip.code), codes.words(chip.code))
        if chip.code == codes.RESET_REQUIRED and component != HOST:
            self._readings.append(Reading(component, Metric.RECOVERY_ACTION, RESET_WANTED))
        if chip.code in codes.CHIP_KINDS and chip.code != codes.UNKNOWN:
            self._tell(component, chip.code, codes.CHIP_KINDS[chip.code])
        if component.kind is not ComponentKind.CHIP:
            return False
        self._seen[component.name] = self._known[component.name]
        return True

    def _lose(self, component: Component, code: int) -> None:
        self._gap(component, GapReason.FAILED, codes.words(code))
        if component != HOST:
            self._readings.append(Reading(component, Metric.PRESENT, 0.0))
        self._gone.add(component.name)

    def _name_missing(self) -> None:
        """Name the chips that were here before and that enumeration no longer shows."""
        for uid, chip in self._known.items():
            if uid not in self._seen and uid not in self._gone:
                self._readings.append(Reading(chip.component, Metric.PRESENT, 0.0))
                detail = f"NVML no longer lists it; it was GPU {chip.index} at {chip.pci}"
                self._gap(chip.component, GapReason.MISSING, detail)

    def _name_unlisted(self) -> None:
        """Name what PCI shows and NVML does not; a container may hide it, so it is not lost."""
        accounted = {chip.pci for chip in (self._known | self._seen).values()}
        for address in self._pci_addresses:
            if address not in accounted:
                detail = "PCI shows this GPU and NVML does not list it"
                self._gap(pci_component(address), GapReason.MISSING, detail)

    def _gap(self, component: Component, reason: GapReason, detail: str) -> None:
        self._gaps.append(Gap(component, None, reason, detail))

    def _tell(self, component: Component, code: int, kind: str) -> None:
        """Add an event; what 999 means depends on who said it, the other codes mean one thing."""
        is_ambiguous = code == codes.UNKNOWN
        self._events.append(
            Event(
                component=component,
                code=f"nvml:{code}",
                message=codes.words(code),
                at=self._at,
                kind=kind,
                severity=KINDS[kind].severity if is_ambiguous else None,
                action=KINDS[kind].action if is_ambiguous else None,
                quiet_seconds=_QUIET_SECONDS,
            )
        )
