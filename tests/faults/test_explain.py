"""A pasted log: the cause before what follows from it, one screen, two languages."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.errors import ChipmedicError
from chipmedic.faults.explain import Report, explain_stream
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.lines_training import read_training_text
from chipmedic.model import Action, Severity
from chipmedic_cli.explain import explain_lines_independent, explain_text, render, run
from chipmedic_cli.explain_texts import ACTIONS, KINDS_ZH, SEVERITIES, TEXTS
from fuzzing import examples

HEAD = "Mar  4 07:08:09 n7 kernel: [ 4711.081516] "
LOST = "NVRM: Xid (PCI:0000:4a:00): 79, GPU has fallen off the bus."
TORN = "NVRM: Xid (PCI:{}): 45, pid=71, name=python, Ch 00000008"
NCCL = (
    "[rank{}]:[E304 07:18:20 ProcessGroupNCCL.cpp:607] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=71, OpType=ALLREDUCE) ran for 600029 milliseconds"
)


def explained(*lines: str) -> Report:
    return explain_text("\n".join(lines) + "\n")


def roots(report: Report) -> list[tuple[str, str]]:
    return [(cause.root.finding.code, cause.place.name) for cause in report.causes]


def test_the_dead_chip_comes_before_its_echoes() -> None:
    report = explained(
        HEAD + "pcieport 0000:48:01.0: AER: Uncorrected (Fatal) error received: 0000:48:01.0",
        HEAD + TORN.format("0000:4a:00"),
        HEAD + LOST,
        HEAD + "NVRM: GPU 0000:4a:00.0: GPU has fallen off the bus.",
        *[HEAD + TORN.format("0000:4b:00")] * 6,
        HEAD + "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM",
        HEAD + "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Severity 1 Engine instance",
        *[NCCL.format(rank) for rank in range(8)],
    )
    assert roots(report) == [("xid:79", "0000:4a:00")]
    (cause,) = report.causes
    assert (cause.severity, cause.action) == (Severity.CRITICAL, Action.REBOOT_NODE)
    echoes = {s.finding.code: s.count for _, s in cause.echoes}
    assert echoes == {"kernel:pcie.fatal": 1, "xid:45": 6, "sxid:20034": 1, "train:nccl_timeout": 8}
    assert report.symptoms == []


def test_two_chips_that_died_are_two_causes() -> None:
    other = LOST.replace("4a", "5d")
    assert len(explained(HEAD + LOST, HEAD + other).causes) == 2


def test_a_link_error_of_another_host_is_no_echo() -> None:
    switch = "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM"
    report = explained(HEAD + LOST, HEAD.replace("n7", "n9") + switch)
    assert len(report.causes) == 2


def test_only_symptoms_are_said_to_be_symptoms() -> None:
    report = explained(*[NCCL.format(rank) for rank in range(4)])
    assert report.causes == []
    assert [s.count for _, s in report.symptoms] == [4]
    assert "rank that stopped first" in " ".join(render(report, "en"))


@pytest.mark.parametrize(
    "said",
    [
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "RuntimeError: CUDA error: unspecified launch failure",
        "RuntimeError: No CUDA GPUs are available",
        " exitcode  : -9 (pid: 71)",
        "slurmstepd: error: Detected 3 oom_kill events in StepId=71.0.",
    ],
)
def test_what_a_program_says_follows_from_what_the_kernel_saw(said: str) -> None:
    report = explained(said, HEAD + LOST, NCCL.format(1))
    assert roots(report) == [("xid:79", "0000:4a:00")]
    assert len(report.causes[0].echoes) == 2
    assert len(explained(said, NCCL.format(1)).causes) == 1


RAS = "amdgpu 0000:c6:00.0: {3}uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!"
GONE = "nvme nvme3: Disabling device after reset failure: -19"


@pytest.mark.parametrize(
    ("cause", "echo"),
    [
        (LOST, "INFO: task nvidia-smi:71 blocked for more than 120 seconds."),
        (LOST, "python[71]: segfault at 0 ip 00 sp 00 error 4 in libnccl.so.2[7f00+1]"),
        (LOST, "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM"),
        (RAS, "amdgpu 0000:c9:00.0: amdgpu: GPU reset begin!. Source:  2"),
        (RAS, "amdgpu: Failed to restore process queues"),
        (
            RAS,
            "amdgpu 0000:c9:00.0: [Hardware Error]: Accelerator Check Architecture events logged",
        ),
        (GONE, "I/O error, dev nvme3n1, sector 71 op 0x1:(WRITE)"),
        (GONE, "Buffer I/O error on dev dm-0, logical block 71, lost async page write"),
        (GONE, "XFS (nvme3n1p1): Filesystem has been shut down due to log error (0x2)."),
    ],
)
def test_what_follows_from_a_fault_stands_behind_it(cause: str, echo: str) -> None:
    report = explained(HEAD + echo, HEAD + cause)
    assert [c.root.finding.message for c in report.causes] == [cause]
    assert [s.finding.message for _, s in report.causes[0].echoes] == [echo]
    assert len(explained(HEAD + cause, HEAD.replace("n7", "n9") + echo).causes) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (RAS, "NVRM: krcWatchdog: RC watchdog: GPU is probably locked!"),
        (GONE, "I/O error, dev sdc, sector 71"),
        (GONE, "nfs: server store-3 not responding, still trying"),
        (LOST, "EDAC MC3: 1 UE memory read error on DIMM_A1"),
        (LOST, "NVRM: Xid (PCI:0000:5d:00): 48, DBE"),
    ],
)
def test_two_faults_stay_two(first: str, second: str) -> None:
    assert len(explained(HEAD + first, HEAD + second).causes) == 2


def test_of_an_out_of_memory_kill_the_victim_is_the_evidence() -> None:
    report = explained(
        HEAD + "python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0",
        HEAD + "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task=python,pid=71",
        HEAD + "Memory cgroup out of memory: Killed process 71 (python) total-vm:1kB",
    )
    [cause] = report.causes
    assert cause.severity is Severity.WARNING  # the container's limit, not the node's memory
    assert "Killed process 71 (python)" in cause.root.finding.message
    assert cause.root.line == 1


def test_links_of_several_chips_are_one_fault_of_the_fabric() -> None:
    lost = "RLW_SRC_TRACK Nonfatal XC0 i0 Link 03 (0x040868e2 0x00000008 0x0 0x0 0x0 0x0)"
    down = "NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x025525c6 0x00000000 0x0 0x0 0x0 0x0)"
    wish = "154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
    lines = [
        f"NVRM: Xid (PCI:0000:66:00): 145, {lost}",
        f"NVRM: Xid (PCI:0000:76:00): 145, {lost}",
        f"NVRM: Xid (PCI:0000:86:00): 149, {down}",
        f"NVRM: Xid (PCI:0000:76:00): {wish}",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore",
    ]
    report = explained(*(HEAD + line for line in lines))
    assert roots(report) == [("xid:149", "0000:86:00")]
    [cause] = report.causes
    assert cause.action is Action.REBOOT_NODE  # what the driver of a neighbour asks for
    assert [p.name for p in cause.other_places] == ["0000:66:00", "0000:76:00", "0000:c1:00"]
    for language, words in (("en", "Links of 3 more parts"), ("zh", "另有 3 个部件")):
        assert words in "\n".join(render(report, language))
    assert len(explained(HEAD + lines[2], HEAD.replace("n7", "n9") + lines[2]).causes) == 2


@pytest.mark.parametrize(
    "before",
    [
        "EDAC MC3: 1 UE memory read error on DIMM_A1",
        "mce: [Hardware Error]: CPU 7: Machine Check Exception: 5 Bank 1: bd80000000100134",
    ],
)
def test_a_panic_is_the_end_of_a_hardware_error(before: str) -> None:
    panic = "Kernel panic - not syncing: Fatal hardware error!"
    [cause] = explained(HEAD + before, HEAD + panic).causes
    assert cause.root.finding.message == before
    assert [s.finding.message for s in cause.also] == [panic]


def test_many_hosts_that_miss_one_server_are_one_cause() -> None:
    lines = [HEAD.replace("n7", f"n{n}") + "nfs: server store-3 not responding" for n in range(4)]
    report = explained(*lines, HEAD + "nfs: server store-9 not responding, timed out")
    assert [cause.place.name for cause in report.causes] == ["store-3", "store-9"]
    assert "Same on 3 more hosts" in "\n".join(render(report, "en"))


def test_a_full_disk_is_no_echo_of_a_chip() -> None:
    full = "OSError: [Errno 28] No space left on device: '/ckpt/step_71'"
    assert {code for code, _ in roots(explained(full, HEAD + LOST))} == {
        "xid:79",
        "train:disk_full",
    }


@pytest.mark.parametrize(
    ("why", "code"),
    [("TIME LIMIT", "train:time_limit"), ("NODE FAILURE, SEE LOG", "train:node_failed")],
)
def test_what_the_scheduler_decided_explains_the_rest(why: str, code: str) -> None:
    report = explained(
        " exitcode  : -9 (pid: 71)",
        f"slurmstepd: error: *** JOB 71 ON n7 CANCELLED AT 2026-03-04T07:08:09 DUE TO {why} ***",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
    )
    assert roots(report) == [(code, "")]


def test_a_harmless_correction_explains_no_hang() -> None:
    line = HEAD + "pcieport 0000:48:01.0: AER: Corrected error received: id=00e5"
    report = explained(line, NCCL.format(1))
    assert roots(report) == [("kernel:pcie.corrected", "0000:48:01")]
    assert len(report.symptoms) == 1


def test_one_program_on_many_chips_is_one_cause() -> None:
    report = explained(
        *[f"NVRM: Xid (PCI:0000:{bus}:00): 31, pid=7, MMU Fault" for bus in ("4a", "4b", "5c")]
    )
    (cause,) = report.causes
    assert [place.name for place in cause.other_places] == ["0000:4b:00", "0000:5c:00"]


def test_the_drivers_own_word_decides_what_to_do() -> None:
    ecc = "NVRM: Xid (PCI:0000:4a:00): 48, DBE"
    wish = "NVRM: Xid (PCI:0000:4a:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (x)"
    (cause,) = explained(ecc, wish).causes
    assert (cause.root.finding.code, cause.action) == ("xid:48", Action.REBOOT_NODE)


def test_the_uuid_of_the_chip_is_shown() -> None:
    named = "NVRM: GPU at PCI:0000:4a:00: GPU-5c1e07aa-90d2-4b13-8f6e-3a7c51d2e904"
    text = "\n".join(render(explained(HEAD + named, HEAD + LOST), "en"))
    assert "GPU-5c1e07aa" in text
    assert "n7" in text


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "train:illegal_access",
        ),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "train:ecc"),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "train:device_memory",
        ),
        ("NET/IB : Got completion from peer 10.0.0.3 with status=12 opcode=1", "train:ib_retry"),
        ("error code is 507010", "cann:507010"),
        ("EI0002: The wait execution of the Notify register times out", "hccl:EI0002"),
        ("traceback : Signal 9 (SIGKILL) received by PID 71", "train:killed"),
        ("Memory access fault by GPU node-3 on address 0x7f", "train:amd_fault"),
        ("[c10d] recvValue failed: Connection reset by peer", "train:peer_gone"),
        (
            "ProcessGroupNCCL.cpp:9] Timeout at NCCL work: 71, last enqueued 72",
            "train:nccl_timeout",
        ),
        ("[PG 0 Rank 3] Heartbeat monitor timed out! Process will be", "train:nccl_timeout"),
        ("Detected timeout process_group: 0 comm_task (op:ALLREDUCE)", "train:nccl_timeout"),
        ("NCCL WARN NET/IB : mlx5_3:1 Got async event : port error", "train:ib_event"),
        ("NCCL WARN NET/IB : mlx5_3:1 Got async event : GID table change", None),
        ("NCCL INFO [Service thread] Connection closed by localRank 3", None),
        ("NCCL WARN socketProgress: Connection closed by remote peer n7<71>", "train:peer_gone"),
        ("ncclUnhandledCudaError: Call to CUDA function failed.", "train:nccl_aborted"),
        ("Task from HCCL run failed", "train:nccl_aborted"),
        ("Setting HCCL timeout to 1836 s", None),
        ("HCCL_EXEC_TIMEOUT is 1836, HCCL connect timeout = 120", None),
        ("Timed out after 71 seconds waiting for clients. 7/8 clients joined.", "train:rendezvous"),
        ("Failed to initialize NVML: Driver/library version mismatch", "train:mismatch"),
        ("Failed to initialize NVML: Unknown Error", "train:no_device"),
        ("cudaGetDeviceCount() Error 802: system not yet initialized", "train:fabric"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "train:no_device"),
        ("backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", "train:no_device"),
        ("HW Exception by GPU node-3 (Agent handle: 0x71) reason :GPU Hang", "train:gpu_hang"),
        ("HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION: x", "train:amd_fault"),
        ("HIP error: unspecified launch failure", "train:launch_failed"),
        ("CUDA error: Invalid access of peer GPU memory over nvlink or", "train:nvlink"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "train:device_memory"),
        ("OSError: [Errno 116] Stale file handle: '/data/71'", "train:file_server"),
        ("DataLoader worker (pid 71) is killed by signal: Bus error. x", "train:shared_memory"),
        ("RuntimeError: DataLoader worker (pid(s) 71) exited unexpectedly", "train:killed"),
        ("srun: error: n7: task 3: Killed", "train:killed"),
        ("srun: error: n7: task 3: Out Of Memory", "train:step_oom"),
        ("api.py:874] failed (exitcode: 1) local_rank: 3 (pid: 71) of binary", "train:rank_failed"),
        ("Fatal Python error: Segmentation fault", "train:crashed"),
        ("ACL stream synchronize failed, error code:507035", "cann:507035"),
        ("step 71: loss 2.31, lr 1e-4, EI0 EZ, 9 SIGNALS", None),
        ("saving checkpoint; previous timeout was 30", None),
    ],
)
def test_training_lines(line: str, code: str | None) -> None:
    finding = read_training_text(line)
    assert (finding.code if finding else None) == code
    causes_or_symptoms = explained(line)
    assert bool(causes_or_symptoms.causes or causes_or_symptoms.symptoms) == (code is not None)


def test_one_screen_whatever_the_log() -> None:
    lines = [LOST.replace("4a", f"{bus:02x}") for bus in range(64)] * 3
    out = render(explained(*lines), "en")
    assert len(out) < 45
    assert max(map(len, out)) <= 170


def test_nothing_is_said_of_nothing() -> None:
    out = render(explained("all is well", "step 3"), "en")
    assert "Lines read: 2. Nothing" in out[0]


def test_both_languages_say_everything() -> None:
    assert TEXTS["en"].keys() == TEXTS["zh"].keys()
    for language in ("en", "zh"):
        assert set(SEVERITIES[language]) == set(Severity)
        assert set(ACTIONS[language]) == set(Action)
    assert set(KINDS_ZH) == set(KINDS)
    text = "\n".join(render(explained(HEAD + LOST), "zh"))
    assert "重启节点" in text


def test_lines_by_themselves_do_not_influence_each_other() -> None:
    answer = explain_lines_independent([LOST, "nothing", LOST])
    assert [entry["line"] for entry in answer] == [1, 2, 3]
    assert [len(entry["findings"]) for entry in answer] == [1, 0, 1]
    assert answer[0]["findings"] == answer[2]["findings"]
    assert answer[0]["findings"][0]["pci"] == "0000:4a:00"


@pytest.mark.parametrize("text", ["", "one", f"{LOST}\nx\n\n", "x\r\n\x85y\n"])
def test_the_command_answers_once_per_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log"
    file.write_bytes(text.encode())
    run(str(file), as_json=True, independent=True, language="en")
    answer = json.loads(capsys.readouterr().out)
    assert len(answer) == text.count("\n") + 1 - (text.endswith("\n") or not text)


def test_the_command_says_what_is_wrong_with_its_input(tmp_path: Path) -> None:
    with pytest.raises(ChipmedicError, match="No such file"):
        run(str(tmp_path / "absent"), as_json=False, independent=False, language="en")
    with pytest.raises(ChipmedicError, match="en and zh"):
        run("-", as_json=False, independent=False, language="de")


def test_the_report_is_there_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log"
    file.write_text(HEAD + LOST + "\n", encoding="utf-8")
    run(str(file), as_json=True, independent=False, language="zh")
    (cause,) = json.loads(capsys.readouterr().out)["causes"]
    assert (cause["code"], cause["host"], cause["part"]) == ("xid:79", "n7", "0000:4a:00")


@settings(max_examples=examples(200))
@given(
    st.binary(max_size=2000)
    | st.lists(st.sampled_from([LOST, TORN, NCCL])).map(repr).map(str.encode)
)
def test_any_bytes_are_a_log(data: bytes) -> None:
    report = explain_stream(io.BytesIO(data))
    assert report.lines <= data.count(b"\n") + 1
    assert len(report.causes) <= report.lines
    for language in ("en", "zh"):
        text = "\n".join(render(report, language))
        named = [cause.root.finding.code.rpartition(":")[2] for cause in report.causes]
        assert text
        assert all(code in text for code in named)
