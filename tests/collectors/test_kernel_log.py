"""The kernel log: nothing twice, nothing lost in silence, nobody believed but the kernel."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.errors import CollectError
from chipmedic.host import LinuxHost
from chipmedic.model import Action, ComponentKind, Event, GapReason, Scan, Severity
from chipmedic.testing import FakeHost
from chipmedic_collectors import kernel_log, kmsg
from chipmedic_collectors.kernel_log import KernelLog, read_boot
from chipmedic_collectors.kmsg import KmsgDevice, parse_record
from chipmedic_simulator.kernel_log import EXAMPLES, SimulatedKernelLog
from fuzzing import examples

PCI = "0000:4a:00.0"
LOST = "NVRM: Xid (PCI:0000:4a:00): 79, GPU has fallen off the bus."


@pytest.fixture
def log(tmp_path: Path) -> SimulatedKernelLog:
    return SimulatedKernelLog(tmp_path)


@pytest.fixture
def collector(log: SimulatedKernelLog, tmp_path: Path) -> KernelLog:
    return opened(tmp_path)


def opened(root: Path, cursor: str | None = None) -> KernelLog:
    collector = KernelLog.discover(LinuxHost(str(root)))
    assert collector is not None
    if cursor is not None:
        collector.resume(cursor)
    return collector


def codes(scan: Scan) -> list[str]:
    return [event.code for event in scan.events]


def test_a_fault_is_seen_once_with_where_when_and_which(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    before = time.time()
    log.write("usb 1-1: new device")
    sequence = log.write(LOST)
    (event,) = collector.scan().events
    assert (str(event.component), event.code, event.message) == (f"pci:{PCI}", "xid:79", LOST)
    assert (event.kind, event.severity, event.action) == (
        "chip.lost",
        Severity.CRITICAL,
        Action.REBOOT_NODE,
    )
    boot, _, number = event.id.rpartition("/")
    assert number == str(sequence)
    assert collector.cursor() == f"{boot}/{sequence}"
    assert before - 1.5 <= event.at <= time.time()
    assert collector.scan().events == ()


def test_the_kernels_own_clock_may_be_minutes_off(log: SimulatedKernelLog, tmp_path: Path) -> None:
    log.reboot(at=time.time() - 3600)
    log.write(LOST, at=time.time() - 600)
    collector = opened(tmp_path)
    (old,) = collector.scan().events
    looked_at = time.time()
    log.write(LOST, at=time.time() - 600)
    (fresh,) = collector.scan().events
    assert old.at < looked_at - 590, "written before we looked: its own time is the best there is"
    assert looked_at - 1 <= fresh.at <= time.time()


def test_the_same_text_twice_is_two_events(log: SimulatedKernelLog, collector: KernelLog) -> None:
    log.write(LOST)
    log.write(LOST)
    first, second = collector.scan().events
    assert first.id != second.id


def test_a_restart_in_the_same_boot_goes_on(log: SimulatedKernelLog, tmp_path: Path) -> None:
    log.write(LOST)
    first = opened(tmp_path)
    assert len(first.scan().events) == 1
    log.say("oom")
    again = opened(tmp_path, first.cursor())
    assert codes(again.scan()) == ["kernel:host.oom", "kernel:host.oom"]
    assert again.scan().events == ()


def test_a_fresh_agent_and_one_after_a_reboot_begin_at_the_oldest(
    log: SimulatedKernelLog, tmp_path: Path
) -> None:
    log.write(LOST)
    first = opened(tmp_path)
    first.scan()
    cursor = first.cursor()
    log.reboot()
    log.say("hung-task")
    assert codes(opened(tmp_path, cursor).scan()) == ["kernel:host.hung_task"]


def test_what_was_said_long_before_the_first_look_is_history(
    log: SimulatedKernelLog, tmp_path: Path
) -> None:
    now = time.time()
    log.reboot(at=now - 20 * 86_400)
    log.write(LOST, at=now - 10 * 86_400)
    log.write(LOST, at=now - 60)
    old, new = opened(tmp_path).scan().events
    assert (old.severity, new.severity) == (Severity.INFO, Severity.CRITICAL)
    known = "the-boot-before/7"
    again, _ = opened(tmp_path, known).scan().events
    assert again.severity is Severity.CRITICAL, "a host that was watched before has no history"


@pytest.mark.parametrize("cursor", ["", "/", "x/1", "nonsense", "{boot}/", "{boot}/-1", "{boot}/x"])
def test_a_cursor_that_says_nothing_loses_nothing(
    cursor: str, log: SimulatedKernelLog, tmp_path: Path
) -> None:
    log.write(LOST)
    boot = read_boot(LinuxHost(str(tmp_path))).id
    assert len(opened(tmp_path, cursor.format(boot=boot)).scan().events) == 1


def test_a_reboot_of_the_simulated_host_is_noticed(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    for _ in range(3):
        log.write(LOST)
    collector.scan()
    boot = log.reboot()
    log.write(LOST)
    (event,) = collector.scan().events
    assert event.id == f"{boot}/0"


def test_lost_records_are_counted_and_said(log: SimulatedKernelLog, collector: KernelLog) -> None:
    log.write("first")
    collector.scan()
    log.lose(128)
    log.write(LOST)
    scan = collector.scan()
    assert codes(scan) == ["kernel:log.lost", "xid:79"]
    loss = scan.events[0]
    assert "128 records" in loss.message
    assert (loss.component.kind, loss.kind) == (ComponentKind.COLLECTOR, "collector.failed")
    assert [gap.reason for gap in scan.gaps] == [GapReason.FAILED]
    assert collector.scan().gaps == ()


def test_records_lost_while_the_agent_was_away_are_said(
    log: SimulatedKernelLog, tmp_path: Path
) -> None:
    log.write("first")
    first = opened(tmp_path)
    first.scan()
    log.lose(7)
    log.write("later")
    assert codes(opened(tmp_path, first.cursor()).scan()) == ["kernel:log.lost"]


def test_what_is_no_record_costs_the_others_nothing(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.write(LOST)
    log.write_raw(b"garbage without a header\n\xff\xfe;\n")
    log.write(LOST)
    scan = collector.scan()
    assert codes(scan) == ["xid:79", "xid:79"]
    assert [(g.reason, g.detail) for g in scan.gaps] == [
        (GapReason.MALFORMED, "2 records could not be read")
    ]


def test_a_process_that_writes_to_the_log_is_not_believed(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.write(LOST, facility=1)
    log.write(LOST, facility=3)
    assert collector.scan().events == ()
    log.write(LOST)
    assert codes(collector.scan()) == ["xid:79"]


def test_three_records_are_one_message(log: SimulatedKernelLog, collector: KernelLog) -> None:
    first, *rest = EXAMPLES["off-bus-unnumbered"]
    log.write(first.format(pci=PCI, bus=""))
    assert collector.scan().events == ()  # the scan may end between them
    log.write("something of another driver")
    for line in rest:
        log.write(line)
    (event,) = collector.scan().events
    assert (event.code, event.component.name) == ("kernel:nvidia.fallen_off_bus", PCI)
    assert PCI in event.message


def test_an_old_name_is_not_joined_to_a_new_fault(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    first, _, last = EXAMPLES["off-bus-unnumbered"]
    now = time.time()
    log.write(first.format(pci=PCI, bus=""), at=now)
    log.write(last, at=now + 60)
    (event,) = collector.scan().events
    assert event.component.kind is ComponentKind.HOST


def test_one_switch_event_of_three_lines_is_one(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.say("nvswitch", "0000:07:00.0")
    assert codes(collector.scan()) == ["sxid:20034"]


def test_the_records_own_dictionary_names_the_device(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.write("krcWatchdog NVRM: RC watchdog: GPU is probably locked!", device="0000:4A:00.0")
    (event,) = collector.scan().events
    assert event.component.name == PCI


@pytest.mark.parametrize(
    ("name", "component"),
    [("nvme", "disk:nvme1"), ("nic-down", "nic:mlx5_2/1"), ("oom", "host"), ("ecc", f"pci:{PCI}")],
)
def test_the_part_is_named(
    name: str, component: str, log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.say(name, PCI)
    assert {str(event.component) for event in collector.scan().events} == {component}


def test_a_machine_check_of_the_first_second_is_an_info(
    log: SimulatedKernelLog, collector: KernelLog
) -> None:
    log.write_raw(b"0,0,82837,-;mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 3: cc00\n")
    (event,) = collector.scan().events
    assert event.severity is Severity.INFO


def test_a_record_is_never_from_the_future(log: SimulatedKernelLog, collector: KernelLog) -> None:
    log.write(LOST, at=time.time() + 7200)
    (event,) = collector.scan().events
    assert event.at <= time.time()


def test_one_record_has_one_time(log: SimulatedKernelLog, tmp_path: Path) -> None:
    log.write(LOST)
    times = set()
    for _ in range(3):
        (event,) = opened(tmp_path).scan().events
        times.add(event.at)
        time.sleep(0.01)
    assert len(times) == 1


def test_a_clock_that_was_set_moves_the_boot_with_it(
    log: SimulatedKernelLog, tmp_path: Path
) -> None:
    """A host starts two hours behind, the agent with it; then its clock is set."""

    class Behind(LinuxHost):
        behind = 7200.0

        def now(self) -> float:
            return time.time() - self.behind

    stat_file = tmp_path / "proc/stat"
    right = stat_file.read_text()
    booted_at = read_boot(LinuxHost(str(tmp_path))).at
    assert booted_at is not None
    stat_file.write_text(f"btime {booted_at - Behind.behind:.0f}\n")
    host = Behind(str(tmp_path))
    collector = KernelLog.discover(host)
    assert collector is not None
    log.write(LOST)
    (early,) = collector.scan().events
    assert early.at == pytest.approx(time.time() - 7200, abs=60)
    host.behind = 0.0
    stat_file.write_text(right)
    log.write(LOST)
    (event,) = collector.scan().events
    assert event.at == pytest.approx(time.time(), abs=60)
    assert event.id.rpartition("/")[0] == early.id.rpartition("/")[0]


def test_a_clock_that_was_set_back_makes_no_history_of_what_comes(
    log: SimulatedKernelLog, tmp_path: Path
) -> None:
    """A host, and its agent for the first time, starts hours ahead; then NTP corrects it."""

    class Ahead(LinuxHost):
        ahead = 5 * 3600.0

        def now(self) -> float:
            return time.time() + self.ahead

    host = Ahead(str(tmp_path))
    collector = KernelLog.discover(host)
    assert collector is not None
    host.ahead = 0.0
    log.write(LOST)
    (event,) = collector.scan().events
    assert event.severity > Severity.INFO


def test_a_flood_is_read_in_pieces_and_completely(
    log: SimulatedKernelLog, collector: KernelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_log, "RECORDS_PER_SCAN_MAX", 10)
    for _ in range(95):
        log.write(LOST)
    seen: list[Event] = []
    for _ in range(10):
        events = collector.scan().events
        assert len(events) <= 10
        seen += events
    assert len({event.id for event in seen}) == 95


def test_a_fifo_works_too(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/kmsg")
    collector = opened(tmp_path)
    assert collector.scan().events == ()
    assert collector.wake_fd() is None
    writer = os.open(tmp_path / "dev/kmsg", os.O_WRONLY)
    os.write(writer, f"4,0,1000000,-;{LOST}\n".encode())
    assert codes(collector.scan()) == ["xid:79"]
    os.write(writer, f"4,1,1000000,-;{LOST[:20]}".encode())
    assert codes(collector.scan()) == []
    os.write(writer, f"{LOST[20:]}\n".encode())
    assert codes(collector.scan()) == ["xid:79"]
    os.close(writer)
    collector.close()


class LaterHost(LinuxHost):
    """A host whose clock is moved by hand."""

    later_seconds = 0.0

    def now(self) -> float:
        return time.time() + self.later_seconds


def test_no_log_is_no_collector(tmp_path: Path) -> None:
    assert KernelLog.discover(LinuxHost(str(tmp_path))) is None


def test_a_broken_log_is_left_alone_for_a_while_and_then_read(tmp_path: Path) -> None:
    broken = tmp_path / "dev/kmsg"
    broken.mkdir(parents=True)  # opens, and every read fails
    host = LaterHost(str(tmp_path))
    collector = KernelLog.discover(host)
    assert collector is not None
    with pytest.raises(CollectError, match="dev/kmsg: cannot be read: Is a directory"):
        collector.scan()
    with pytest.raises(CollectError, match="tried again every 5 s"):
        collector.scan()
    broken.rmdir()
    SimulatedKernelLog(tmp_path).write(LOST)
    host.later_seconds = 6.0
    assert codes(collector.scan()) == ["xid:79"]


def device(answers: list[bytes | int]) -> KmsgDevice:
    """Return a device whose reads are a script of records and errors."""

    def read(_: int, size: int) -> bytes:
        assert size == kmsg.READ_BYTES
        answer = answers.pop(0) if answers else errno.EAGAIN
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    return KmsgDevice(-1, read)


def test_an_overrun_and_a_refused_record_are_survived() -> None:
    source = device([b"a", errno.EPIPE, b"b", errno.EINVAL, errno.EINTR, b"c"])
    assert list(source.records()) == [b"a", b"b", b"c"]
    assert source.malformed == 1


def test_errors_without_end_are_no_hot_loop() -> None:
    source = device([errno.EINVAL] * 100_000)
    with pytest.raises(OSError, match="Invalid argument"):
        list(source.records())
    assert source.malformed <= kmsg.ERRORS_IN_A_ROW_MAX + 1


def test_the_real_device_can_be_waited_on() -> None:
    """Where this process may read the kernel's log."""
    if not (stat.S_ISCHR(Path("/dev/kmsg").stat().st_mode) if Path("/dev/kmsg").exists() else 0):
        return
    if not os.access("/dev/kmsg", os.R_OK):
        return
    collector = KernelLog.discover(LinuxHost())
    assert collector is not None
    try:
        scan = collector.scan()
    except CollectError:
        return  # readable by mode, refused by dmesg_restrict
    assert scan.source == "kernel_log"
    assert collector.wake_fd() is not None
    assert collector.cursor() is not None
    collector.close()
    assert collector.wake_fd() is None


def test_the_boot_has_a_name_and_a_time() -> None:
    host = FakeHost(
        files={
            "/proc/sys/kernel/random/boot_id": "6d1b\n",
            "/proc/stat": "cpu 1 2\nbtime 1700000000\nprocesses 3\n",
        }
    )
    boot = read_boot(host)
    assert (boot.id, boot.at) == ("6d1b", 1_700_000_000.0)
    assert boot.time_of(1.5, now=1_700_000_100.0) == 1_700_000_001.5
    bare = read_boot(FakeHost())
    assert bare.id == "unknown"
    assert bare.time_of(1.5, now=7.0) == 7.0


def test_a_record_is_taken_apart() -> None:
    record = parse_record(
        b"30,4711,91827364,-,caller=T1;say \\x22hi\\x0athere\\x22\n"
        b" SUBSYSTEM=pci\n DEVICE=+pci:0000:4A:00.0\n"
    )
    assert (record.facility, record.level, record.sequence) == (3, 6, 4711)
    assert record.uptime_seconds == pytest.approx(91.827364)
    assert record.text == 'say "hi there"'
    assert record.pci == PCI


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        record = parse_record(data)
    except ValueError:
        return
    assert record.sequence >= 0
    assert 0 <= record.level <= 7
    assert 0 <= record.uptime_seconds < math.inf
    assert b"\n" not in record.text.encode()


@settings(max_examples=examples(50))
@given(blocks=st.lists(st.binary(max_size=60) | st.just(f"4,1,1,-;{LOST}\n".encode()), max_size=8))
def test_any_file_is_read_without_a_crash(
    blocks: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("host")
    log = SimulatedKernelLog(root)
    collector = opened(root)
    lost, told = 0, 0
    for block in blocks:
        log.write_raw(block)
        lost += LOST.encode() in block
        told += sum(event.code == "xid:79" for event in collector.scan().events)
        assert told <= lost, "nothing is told twice, and nothing that was not said"
    collector.close()
