"""What one line states: each rule fires on its line and stays silent on the lines beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults.kernel_lines import (
    NEEDLES,
    RULES,
    is_candidate,
    read_line,
)
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.rule import normal_pci
from chipmedic.model import Action, Severity
from fuzzing import examples
from seldom_lines import DETAILS, MILD, SELDOM, WORDINGS

CONFORMANCE = Path(__file__).parents[2].parent / "shared/conformance"
X = "NVRM: Xid (PCI:0000:4a:00): "

FAULTS = [
    (X + "79, GPU has fallen off the bus.", "xid:79", "chip.lost"),
    (X + "13, Graphics Exception: ESR 0x50e730=0x210000e", "xid:13", "app.fault"),
    (X + "31, pid=71, name=a b::c, Ch 00000001, intr 0. MMU Fault", "xid:31", "app.fault"),
    ("NVRM: Xid (0000:4a:00): 8, Channel 00000001", "xid:8", "app.fault"),
    ("NVRM: Xid (PCI:0000:4a:00 GPU-I:07 GPU-CI:00): 94, Ch 3", "xid:94", "memory.contained"),
    ("NVRM: Xid (0x4a00): 48, ...", "xid:48", "memory.uncorrectable"),
    (X + "63, Dynamic Page Retirement: New page retired", "xid:63", "memory.remap_pending"),
    (X + "149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 05 (0x0)", "xid:149", "link.down"),
    (X + "146, TLW_RX_PIPE0 Nonfatal XC1 i0 Link 02 (0x0)", "xid:146", "link.errors"),
    (X + "99999, something new", "xid:99999", "chip.internal"),
    (
        "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 12033, Non-fatal, Link 3 egress credit",
        "sxid:12033",
        "link.errors",
    ),
    ("nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 22003, Fatal, Link 3", "sxid:22003", "link.down"),
    ("nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 26006, SOE halted", "sxid:26006", "chip.firmware"),
    (
        "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 28003, Non-fatal, Link 3 old meaning",
        "sxid:28003",
        "link.errors",
    ),
    (
        "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 28003, OSFP over-limit",
        "sxid:28003",
        "thermal.critical",
    ),
    ("NVRM: GPU 0000:4a:00.0: GPU has fallen off the bus.", "nvidia.fallen_off_bus", "chip.lost"),
    ("NVRM: fallen off the bus and is not responding.", "nvidia.fallen_off_bus", "chip.lost"),
    ("NVRM: Rate limiting GSP RPC error prints for GPU", "nvidia.gsp_storm", "chip.firmware"),
    ("NVRM: _kgspRpcRecvPoll: GSP RM heartbeat timed out", "nvidia.gsp_heartbeat", "chip.firmware"),
    ("NVRM: rpcSendMessage failed with status 0x00000062", "nvidia.reset_required", None),
    ("NVRM: Check failed: GPU lost [NV_ERR_GPU_IS_LOST] (0xf)", "nvidia.gpu_is_lost", "chip.lost"),
    ("NVRM: GPU 0000:4a:00.0: RmInitAdapter failed! (0x24)", "nvidia.init_failed", "driver.fault"),
    ("NVRM: kgspInitRm_IMPL: cannot bootstrap riscv/gsp: 0x65", "nvidia.gsp_boot", None),
    ("NVRM: krcWatchdog: RC watchdog: GPU is probably locked!", "nvidia.locked", "chip.hung"),
    ("NVRM: uvm encountered global fatal error 0x60", "nvidia.uvm_fatal", "driver.fault"),
    ("NVRM: API mismatch: the client has the version 1.2", "nvidia.api_mismatch", None),
    ("NVRM: GPU does not have the necessary power cables connected.", "nvidia.power_cable", None),
    ("nvidia 0000:4a:00.0: AER: can't recover (no callback)", "pcie.no_recovery_gpu", None),
    ("amdgpu 0000:c6:00.0: amdgpu: device lost from bus!", "amd.lost", "chip.lost"),
    ("hycu 0000:c6:00.0: hycu: GPU reset begin!", "amd.reset_begin", "chip.reset"),
    ("amdgpu 0000:c6:00.0: amdgpu: GPU reset(3) succeeded!", "amd.reset_done", "chip.reset"),
    ("amdgpu 0000:c6:00.0: GPU reset end with ret = -19", "amd.lost", "chip.lost"),
    ("amdgpu 0000:c6:00.0: GPU reset end with ret = -62", "amd.reset_failed", None),
    ("amdgpu 0000:c6:00.0: 7 new uncorrectable hardware errors detected in gfx block", None, None),
    (
        "amdgpu 0000:c6:00.0: {3}2 correctable hardware errors detected in xgmi_wafl block",
        "amd.correctable",
        "link.errors",
    ),
    (
        "amdgpu 0000:c6:00.0: {3}2 deferred hardware errors detected in umc block",
        "amd.deferred",
        "memory.uncorrectable",
    ),
    (
        "[drm:amdgpu_job_timedout] *ERROR* ring gfx timeout, signaled seq=1",
        "amd.ring_timeout",
        None,
    ),
    ("amdgpu 0000:c6:00.0: [gfxhub] page fault (src_id:0 ring:24)", "amd.page_fault", "app.fault"),
    ("amdgpu 0000:c6:00.0: amdgpu: ERROR: GPU over temperature range(SW CTF)", "amd.too_hot", None),
    ("trn=2 ACK should not assert! wait again !", "amd.mailbox", "chip.hung"),
    ("i915 0000:00:02.0: [drm] GPU HANG: ecode 9:1:85dffffb", "intel.hung", "chip.hung"),
    ("[drm] stuck on render ring", "intel.hung", "chip.hung"),
    ("xe 0000:4d:00.0: [drm] device wedged, needs recovery", "intel.wedged", "chip.lost"),
    ("i915: MMIO unreliable (forcewake register returns 0xFFFFFFFF)!", "intel.lost", "chip.lost"),
    ("i915 0000:4d:00.0: Resetting rcs0 for preemption time out", "intel.engine_reset", None),
    ("habanalabs hl3: Device heartbeat failed! PCI link is broken", "gaudi.lost", "chip.lost"),
    ("accel accel3: Device heartbeat failed!", "gaudi.heartbeat", "chip.hung"),
    ("habanalabs hl3: Failed to reset! Device is NOT usable", "gaudi.unusable", None),
    ("[ascend] [ERROR] [drv] Heartbeat lost! (device_id=6; n=4)", "ascend.heartbeat_lost", None),
    ("[ascend] [drv_pcie] [f 12] Device is abnormal. (dev_id=5)", "ascend.abnormal", "chip.lost"),
    (
        "[ascend] [devdrv] [f 3] devdrv_manager_send_msg unsuccessful. (ret=-19; dev_id=2)",
        "ascend.abnormal",
        "chip.lost",
    ),
    ("[ascend] [drv_pcie] [f 9] Device[3] lost heartbeat", "ascend.heartbeat_lost", "chip.lost"),
    ("[ascend] [ERROR] [x] [f 1] no idea what this is", "ascend.driver_error", "driver.fault"),
    ("device fault: event_id=0x80e01801, severity=3", "ascend:80E01801", "memory.uncorrectable"),
    (
        "xpu2 sess71 train: session error Exception in kernel execution",
        "kunlun.kernel_exception",
        None,
    ),
    ("METAX.B20300.GPU.ERROR illegal access", "metax.error", "driver.fault"),
    ("Kernel panic - not syncing: Fatal machine check", "host.panic", "host.panic"),
    ("divide error: 0000 [#1] PREEMPT SMP NOPTI", "host.oops", "host.panic"),
    ("Unable to handle kernel paging request at virtual address 0", "host.oops", "host.panic"),
    ("rcu: INFO: rcu_preempt self-detected stall on CPU", "host.lockup", "host.lockup"),
    ("INFO: task kworker/u64:3:71 blocked for more than 241 seconds.", "host.hung_task", None),
    ("python invoked oom-killer: gfp_mask=0xcc0", "host.oom", "host.oom"),
    ("Memory failure: 0x71: Killing python:71 due to hardware memory corruption", None, None),
    ("EDAC skx MC3: 0 CE memory read error on DIMM_A1 (channel:0)", "host.memory_corrected", None),
    ("EDAC MC3: 1 UE memory read error on DIMM_A1", "host.memory_uncorrected", None),
    ("[Hardware Error]: Deferred error, no action required.", "host.memory_uncorrected", None),
    (
        "mce: CPU7: Core temperature is above threshold, cpu clock is throttled (total events = 1)",
        "host.cpu_hot",
        "thermal.throttle",
    ),
    ("CPU7: Core temperature above threshold, cpu clock throttled (total events = 1)", None, None),
    ("pcieport 0000:4a:01.0: AER: Corrected error received: id=00e5", "pcie.corrected", None),
    ("pcieport 0000:4a:01.0: AER: Uncorrected (Non-Fatal) error received", "pcie.nonfatal", None),
    ("pcieport 0000:4a:01.0: DPC: containment event, status:0x1f01", "pcie.contained", None),
    ("pcieport 0000:4a:01.0: pciehp: Slot(9): Card not present", "pcie.gone", "pcie.errors"),
    (
        "train[71]: segfault at 0 ip 00 sp 00 error 4 in libnccl.so.2[7f00+1]",
        "job.library_crash",
        None,
    ),
    ("md/raid1:md0: Disk failure on sdc1, disabling device.", "disk.raid", "host.disk_error"),
    ("blk_update_request: I/O error, dev sdc, sector 71", "disk.io_error", "host.disk_error"),
    ("XFS (dm-3): Metadata I/O Error (0x1) detected at xfs_trans", "fs.error", "host.fs_error"),
    ("nfs: server store-3 not responding, still trying", "fs.nfs", "host.fs_error"),
    ("GPFS Deadman Switch timer [1] has expired; IOs in progress.", "fs.cluster_gone", None),
    ("LustreError: 167-0: x: This client was evicted by x; in progress", "fs.cluster", None),
    ("eth7: NETDEV WATCHDOG: CPU: 3: transmit queue 5 timed out 5200 ms", "nic.tx_timeout", None),
    ("mlx5_core 0000:4b:00.0 mlx5_3: Port: 1 Link DOWN", "nic.down", "nic.down"),
    ("mlx5_core 0000:4b:00.0: firmware internal error, severity(3)", "nic.dead", "nic.errors"),
]

HARMLESS = [
    "NVRM: GPU at PCI:0000:4a:00: GPU-5c1e07aa-90d2-4b13-8f6e-3a7c51d2e904",
    "NVRM: The NVIDIA GPU 0000:4a:00.0",
    "NVRM: (PCI ID: 10de:2330) installed in this system has",
    "NVRM: A GPU crash dump has been created. If possible, please run nvidia-bug-report.sh",
    "NVRM: nvAssertFailedNoLog: Assertion failed: 0 @ kernel_gsp.c:1446",
    "nvidia-modeset: ERROR: GPU:0: Lost display notification",
    "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 12033, Severity 1 Engine instance 3",
    "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 12033, Data {0x1, 0x2}",
    "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 12033, Sev",
    "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 22013, Non-fatal, Link 3 DLREQ interrupt",
    "nvidia 0000:4a:00.1: AER: can't recover (no error_detected callback)",
    "snd_hda_intel 0000:4a:00.1: AER: can't recover (no error_detected callback)",
    "amdgpu 0000:c6:00.0: 0 uncorrectable hardware errors detected in umc block",
    "amdgpu 0000:c6:00.0: 2097120 correctable hardware errors detected in sdma block",
    "amdgpu 0000:c6:00.0: amdgpu: ring gfx timeout, but soft recovered",
    "amdgpu 0000:c6:00.0: amdgpu: 4 correctable hardware errors detected in total in umc block",
    "[drm] GPU hangs can indicate a bug anywhere in the entire gfx stack",
    "habanalabs hl3: Successfully added device 0000:33:00.0 to habanalabs driver",
    "[ascend] [uda] [ERROR] [uda_occupy 1] Conflict open udevid. (udevid=3)",
    "[Hardware Error]: Corrected error, no action required.",
    "mce: [Hardware Error]: PROCESSOR 0:606a6 TIME 1700000000 SOCKET 0 APIC 0",
    "pcieport 0000:4a:01.0: AER: found no error details for 0000:4a:01.0",
    "pcieport 0000:4a:01.0:   device [8086:352a] error status/mask=00004000/00000000",
    "pci 0000:71:00.0: 4.000 Gb/s available PCIe bandwidth, limited by 5.0 GT/s PCIe x1 link",
    "CPU7: Core temperature/speed normal",
    "oom_reaper: reaped process 71 (python), now anon-rss:0kB",
    '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
    "ata9: SATA link down (SStatus 4 SControl 300)",
    "nfs: server store-3 OK",
    "lockd: server store-3 OK",
    "Lustre: x-OST0002-osc-ffff: Connection restored to 192.0.2.7@o2ib (at 192.0.2.7@o2ib)",
    "Lustre: Mounted x-client",
    "LNet: Added LNI 192.0.2.7@o2ib [8/256/0/180]",
    "mmfs: [N] Disk lease reacquired in cluster vault.example.",
    "mmfs: [I] Command: successful mount fs7",
    "mmfs: [N] Node 192.0.2.7 (n7) lease renewal is overdue. Pinging to check if it is alive",
    "beegfs: mount(71): BeeGFS mount ready.",
    "beegfs: enabling unsafe global rkey",
    "beegfs: External logger (provided by beegfs-helperd) is reachable now => logging re-enabled",
    "wekafsio: loading out-of-tree module taints kernel.",
    "Buffer I/O error on dev loop7, logical block 0, async page read",
    "nvme nvme3: Abort status: 0x0",
    "nvme nvme3: Shutdown timeout set to 10 seconds",
    "EXT4-fs (sdc1): re-mounted. Opts: (null)",
    "nfs: server store-3 OK",
    "Mar  4 07:08:09 n7 systemd-networkd[7]: veth71ab: Lost carrier",
    "Mar  4 07:08:09 n7 systemd-networkd[7]: ib0: Gained carrier",
    "mlx5_core 0000:4b:00.0 mlx5_3: Port: 1 Link ACTIVE",
    "mlx5_core 0000:4b:00.0: Port module event: module 1, Cable unplugged",
    "Mar  4 07:08:09 n7 sudo: ops : COMMAND=/usr/bin/grep 'NVRM: Xid (PCI:0000:4a:00): 79,' x",
    "WARNING: CPU: 3 PID: 71 at kernel/workqueue.c:1 x+0x1/0x2",
    "step 71 loss 2.3 error_rate=0.1 timeout=30",
    "audit: event_id=0x12345678 of another vendor",
    "audit: event_id=80E01801 without its 0x",
]


@pytest.mark.parametrize(("line", "code", "kind"), FAULTS)
def test_a_line_states_its_fault(line: str, code: str | None, kind: str | None) -> None:
    (finding,) = read_line(f"Mar  4 07:08:09 n7 kernel: [ 4711.081516] {line}")
    if code is not None:
        assert finding.code in (code, f"kernel:{code}")
    assert kind is None or finding.kind == kind
    assert finding.message == line
    assert finding.hint


@pytest.mark.parametrize("line", [*HARMLESS, *DETAILS])
def test_a_harmless_line_raises_nothing(line: str) -> None:
    assert [f for f in read_line(line) if f.severity >= Severity.WARNING] == []


def test_the_chip_is_named_by_its_address() -> None:
    for line, pci in (
        (X + "79, GPU has fallen off the bus.", "0000:4a:00"),
        ("NVRM: GPU 0000:4A:00.0: RmInitAdapter failed!", "0000:4a:00.0"),
        ("NVRM: Rate limiting GSP RPC error prints for GPU at PCI:0001:4a:00 (1", "0001:4a:00"),
        ("pcieport 0000:4a:01.0: AER: Correctable error message received from 0000:4b:00.0", None),
        ("METAX.B20300.GPU.ERROR x", "0002:03:00.0"),
    ):
        (finding,) = read_line(line)
        assert finding.pci == (pci or "0000:4a:01.0")
    (npu,) = read_line("[ascend] [ERROR] [drv] Heartbeat lost! (device_id=6; n=4)")
    assert (npu.device, npu.pci) == ("npu:6", None)
    (npu,) = read_line("[ascend] [drv_pcie] [f 9] Device[3] lost heartbeat")
    assert npu.device == "npu:3"
    (port,) = read_line("mlx5_core 0000:4b:00.0 mlx5_3: Port: 1 Link DOWN")
    assert (port.device, port.pci) == ("mlx5_3/1", "0000:4b:00.0")


@pytest.mark.parametrize(
    ("given_text", "normal"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0000:1b:00", "0000:1b:00"),
        ("1b:00.0", "0000:1b:00.0"),
        ("0018:01:00", "0018:01:00"),
        ("00018000:01:00.0", "00018000:01:00.0"),
    ],
)
def test_an_address_has_one_spelling(given_text: str, normal: str) -> None:
    assert normal_pci(given_text) == normal


@pytest.mark.parametrize(
    ("to", "severity", "action"),
    [
        ("0x1 (GPU Reset Required)", Severity.CRITICAL, Action.RESET_CHIP),
        ("0x2 (Node Reboot Required)", Severity.CRITICAL, Action.REBOOT_NODE),
        ("0x4 (Drain and Reset)", Severity.CRITICAL, Action.RESET_CHIP),
        ("0x0 (None)", Severity.INFO, Action.NONE),
        ("0x1f (PF FLR)", Severity.CRITICAL, Action.RESET_CHIP),
    ],
)
def test_the_driver_says_what_it_needs(to: str, severity: Severity, action: Action) -> None:
    (finding,) = read_line(X + f"154, GPU recovery action changed from 0x3 (Drain P2P) to {to}")
    assert (finding.severity, finding.action) == (severity, action)


@pytest.mark.parametrize(
    ("words", "code", "severity"),
    [
        ("fatal error 20034 on fid 0", "sxid:20034", Severity.CRITICAL),
        ("non-fatal error 20009 on fid 0", "sxid:20009", Severity.WARNING),
        ("non-fatal error 12028 on NodeId 0", "sxid:12028", Severity.CRITICAL),  # stalls traffic
        ("non-fatal error 22013 on NodeId 0", "sxid:22013", Severity.INFO),
    ],
)
def test_fabric_manager_names_the_same_codes(words: str, code: str, severity: Severity) -> None:
    [finding] = read_line(
        f"[Mar 04 2026 07:08:09] [ERROR] [tid 71] detected NVSwitch {words} on NVSwitch pci bus id "
        "00000000:86:00.0 physical id 3 port 33"
    )
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.pci == "0000:86:00.0"


def test_a_switch_code_that_stalls_traffic_is_grave_whatever_its_word() -> None:
    (finding,) = read_line("x: SXid (PCI:0000:07:00.0): 12028, Non-fatal, Link 3 egress")
    assert finding.severity is Severity.CRITICAL


def test_a_machine_check_of_the_first_second_is_of_the_boot_before() -> None:
    words = "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 5: be00000000800400"
    (old,) = read_line(f"[    0.412345] {words}")
    (new,) = read_line(f"[   71.412345] {words}")
    assert (old.severity, new.severity) == (Severity.INFO, Severity.CRITICAL)


def test_repeats_count() -> None:
    (finding,) = read_line(
        "kernel: message repeated 7 times: [ Out of memory: Killed process 1 (a)]"
    )
    assert finding.count == 7


def test_a_container_at_its_limit_is_milder_than_a_node_without_memory() -> None:
    (inside,) = read_line("Memory cgroup out of memory: Killed process 71 (python) total-vm:1kB")
    (whole,) = read_line("Out of memory: Killed process 71 (python) total-vm:1kB")
    assert inside.severity < whole.severity


def test_every_rule_has_a_line_that_it_finds() -> None:
    """A rule without an example is a rule that nobody has seen work."""
    seen = {finding.code for line, _, _ in FAULTS for finding in read_line(line)}
    untested = (
        {f"kernel:{rule.name}" for rule in RULES if rule.name and rule.read is None}
        - seen
        - set(SELDOM)
    )
    assert untested == set()


def test_a_torn_address_is_none() -> None:
    torn = "NVRM: Xid (PCI:0000:4NVRM: Xid (PCI:0000:4a:00): 48, An uncorrectable double bit error"
    [finding] = read_line(torn)
    assert (finding.code, finding.pci) == ("xid:48", None)


@pytest.mark.parametrize(("code", "line"), SELDOM.items())
def test_a_seldom_line_is_known(code: str, line: str) -> None:
    assert [finding.code for finding in read_line(line)] == [code]


@pytest.mark.parametrize(("line", "rule"), WORDINGS)
def test_another_wording_is_the_same_fault(line: str, rule: str) -> None:
    assert [f.code for f in read_line(line)] == [f"kernel:{rule}"]


@pytest.mark.parametrize(("line", "kind"), MILD)
def test_what_says_little_is_shown_and_no_fault(line: str, kind: str) -> None:
    [finding] = read_line(line)
    assert finding.severity is Severity.INFO
    assert kind in finding.kind


def test_the_needles_miss_no_line_that_a_rule_finds() -> None:
    for line in [*(line for line, _, _ in FAULTS), *SELDOM.values()]:
        assert is_candidate(line), line
    assert len(NEEDLES) < 220


@settings(max_examples=examples(200))
@given(
    st.lists(
        st.sampled_from([*NEEDLES, "NVRM: Xid (PCI:", "0000:4a:00", "): ", "79", " 154, to 0x"])
        | st.text(max_size=12),
        max_size=12,
    )
)
def test_no_line_crashes_the_reader(pieces: list[str]) -> None:
    line = "".join(pieces)
    found = read_line(line)
    assert len(found) <= 1, "one line, one fault"
    for finding in found:
        assert is_candidate(line), "the sieve lets through what the reader would read"
        assert finding.kind in KINDS or finding.kind == "info"
        assert finding.count >= 1
    assert read_line(line) == found


def test_the_corpus_passes(tmp_path: Path) -> None:
    """The corpus of real lines lies beside the checkout of those who have it."""
    if not CONFORMANCE.exists():
        return
    command = tmp_path / "explain"
    command.write_text(
        f"#!{sys.executable}\n"
        f"import json, sys\nsys.path[:0] = {sys.path!r}\n"
        "from chipmedic_cli.explain import run\n"
        "run(sys.argv[-1], as_json=True, independent=True, language='en')\n",
        encoding="utf-8",
    )
    command.chmod(0o755)
    done = subprocess.run(
        [sys.executable, CONFORMANCE / "run", "--only", "kmsg", "--cmd", str(command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
