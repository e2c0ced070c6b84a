"""The sentences with which `nvidia-smi` says that something failed."""

from __future__ import annotations

import pytest

from chipmedic.tool_report import Health, ToolReport, ToolRun
from chipmedic_collectors.nvidia.smi import READER

HANDLE = "Unable to determine the device handle for "
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.1"
TIMEOUT = "timeout: failed to run command ‘nvidia-smi’: "


def read(stdout: str, stderr: str = "", exit_code: int | None = None) -> ToolReport:
    return READER.read(ToolRun(["nvidia-smi"], stdout, stderr, exit_code))


def kinds(report: ToolReport) -> list[str]:
    return [problem.kind.value for problem in report.problems]


@pytest.mark.parametrize(
    ("text", "index", "pci"),
    [
        (
            HANDLE + "GPU 0000:A1:00.0: GPU is lost.  Reboot the system to recover",
            None,
            "0000:a1:00.0",
        ),
        (HANDLE + "gpu 0000:A1:00.0: Unknown Error", None, "0000:a1:00.0"),
        (HANDLE + "GPU0001:A1:00.0: Unknown Error", None, "0001:a1:00.0"),
        (HANDLE + "GPU3: 0000:A1:00.0: Unknown Error", 3, "0000:a1:00.0"),
        (HANDLE + "GPU2: Unknown Error", 2, None),
        (HANDLE + "GPU 0000:A1:00.0: Not Found", None, "0000:a1:00.0"),
        (
            "Unable to detect the device handle for GPU0000:A1:00.0: Unknown Error",
            None,
            "0000:a1:00.0",
        ),
    ],
)
def test_a_lost_chip_is_named(text: str, index: int | None, pci: str | None) -> None:
    report = read(text + "\n")
    (chip,) = report.chips
    assert (chip.index, chip.pci) == (index, pci)
    assert (chip.lost, chip.health) == (True, Health.CRITICAL)
    assert kinds(report) == ["chip_lost"]


@pytest.mark.parametrize(
    ("reason", "health", "kind"),
    [
        ("Insufficient Permissions", Health.UNKNOWN, "permission"),
        ("GPU requires reset", Health.CRITICAL, "partial"),
        ("GPU access blocked by the operating system", Health.UNKNOWN, "permission"),
        ("Insufficient External Power", Health.UNKNOWN, "partial"),
        ("Not Supported", None, "unsupported"),
    ],
)
def test_a_chip_without_handle_need_not_be_lost(
    reason: str, health: Health | None, kind: str
) -> None:
    report = read(f"{HANDLE}GPU0000:A1:00.0: {reason}\n")
    assert (report.chips[0].lost, report.chips[0].health) == (None, health)
    assert kinds(report) == [kind]


def test_the_reason_may_stand_in_the_next_line() -> None:
    assert kinds(read(f"{HANDLE}GPU 0000:A1:00.0:\nNot Supported\n")) == ["unsupported"]


@pytest.mark.parametrize(
    "text",
    [
        "No supported devices in vGPU mode",
        "No MIG-supported devices found.",
        "No MIG-enabled devices found.",
        "No Devices support C2C.",
        "Not supported on the device(s)",
        "Failed to process command line.",
    ],
)
def test_a_mode_that_no_chip_is_in_is_not_the_absence_of_chips(text: str) -> None:
    assert kinds(read(text + "\n")) == ["unsupported"]


@pytest.mark.parametrize(
    ("text", "exit_code", "kind"),
    [
        ("NVIDIA-SMI has failed because it couldn’t communicate with the driver", 9, "driver_down"),
        (MISMATCH, 18, "driver_down"),
        ("Failed to initialize NVML: Unknown Error", 255, "driver_down"),
        ("Failed to initialize NVML: Driver Not Loaded", None, "driver_down"),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12, "driver_down"),
        ("Failed to initialize NVML: Insufficient Permissions", 4, "permission"),
        ("NVIDIA-SMI has failed because you do not have permission to run it.", 4, "permission"),
        ("Failed to initialize NVML: GPU access blocked by the operating system", 17, "permission"),
        ("No devices were found", 6, "no_devices"),
        ("No devices were found", 0, "no_devices"),
        ('Field "gpu.colour" is not a valid field to query.', 2, "unsupported"),
        ("Invalid combination of input arguments. Please run 'nvidia-smi -h'", 1, "unsupported"),
        ("", 9, "driver_down"),
        ("", 15, "chip_lost"),
        ("", 6, "no_devices"),
        ("", 0, "malformed"),
        ("", None, "malformed"),
        ("Hello", None, "malformed"),
    ],
)  # fmt: skip
def test_a_run_that_failed(text: str, exit_code: int | None, kind: str) -> None:
    for report in (read(text, "", exit_code), read("", text, exit_code)):
        if kind == "malformed" or text:
            assert report.chips == []
        assert kinds(report) == [kind]


@pytest.mark.parametrize(
    ("stderr", "exit_code", "kind"),
    [
        ("bash: line 1: nvidia-smi: command not found", 127, "tool_missing"),
        ("/bin/sh: 1: nvidia-smi: not found", 127, "tool_missing"),
        ("sudo: nvidia-smi: command not found", 1, "tool_missing"),
        ("env: ‘nvidia-smi’: No such file or directory", 127, "tool_missing"),
        (TIMEOUT + "No such file or directory", 127, "tool_missing"),
        ('exec: "nvidia-smi": executable file not found in $PATH', None, "tool_missing"),
        ("-bash: nvidia-smi: 未找到命令", 127, "tool_missing"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'nvidia-smi'", 1, "tool_missing"),
        ("", 127, "tool_missing"),
        ("This command must be run as root.", 1, "permission"),
        ("Permission denied", 1, "permission"),
        ("bash: /usr/bin/nvidia-smi: Permission denied", 126, "permission"),
        (TIMEOUT + "Permission denied", 126, "permission"),
        ("", 126, "permission"),
        (
            "nvidia-smi: error while loading shared libraries: libdl.so.2: cannot open shared "
            "object file: No such file or directory",
            127,
            "driver_down",
        ),
        ("bash: nvidia-smi: cannot execute binary file: Exec format error", 126, "unsupported"),
        ("", 124, "truncated"),
        ("Killed", 137, "truncated"),
    ],
)  # fmt: skip
def test_a_tool_that_did_not_run(stderr: str, exit_code: int | None, kind: str) -> None:
    report = read("", stderr, exit_code)
    assert (report.vendor, report.chips, kinds(report)) == ("nvidia", [], [kind])


def test_a_shell_s_words_in_place_of_rows() -> None:
    query = ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"]
    report = READER.read(ToolRun(query, "bash: line 1: nvidia-smi: command not found\n"))
    assert kinds(report) == ["tool_missing"]


def test_a_tool_that_was_killed_behind_its_answer() -> None:
    query = ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"]
    report = READER.read(ToolRun(query, "0, NVIDIA A30\n", "sh: 1: foo: not found", 124))
    assert (len(report.chips), kinds(report)) == (1, ["truncated"])
    report = READER.read(ToolRun(query, "0, NVIDIA A30\n", "sh: 1: foo: not found", 0))
    assert kinds(report) == []


def test_a_damaged_inforom_is_the_chip_s_where_it_can_be_told() -> None:
    line = "WARNING: infoROM is corrupted at gpu 0000:41:00.0\n"
    assert read(line, exit_code=14).chips[0].health is Health.WARNING
    query = ["nvidia-smi", "--query-gpu=index,temperature.gpu", "--format=csv,noheader"]
    one = READER.read(ToolRun(query, "0, 41\n" + line))
    assert [(chip.index, chip.health) for chip in one.chips] == [(0, Health.WARNING)]
    two = READER.read(ToolRun(query, "0, 41\n1, 42\n" + line))
    assert [chip.health for chip in two.chips] == [None, None]
    assert kinds(two) == ["partial"]


def test_unknown_exit_status_of_an_empty_answer_is_not_silence() -> None:
    assert kinds(read("", exit_code=77)) == ["malformed"]


@pytest.mark.parametrize(
    "text",
    [
        "Command 'nvidia-smi' not found, but can be installed with:\nsudo apt install nvidia-utils",
        "fish: Unknown command: nvidia-smi",
        "If 'nvidia-smi' is not a typo you can use command-not-found to lookup the package",
        "bash: nvidia-smi: orden no encontrada",
        "-bash: nvidia-smi: comando não encontrado",
        "bash: nvidia-smi: 找不到命令",
        "bash: nvidia-smi: コマンドが見つかりません",
    ],
)
def test_what_shells_say_of_a_tool_that_is_not_there(text: str) -> None:
    assert kinds(read(text + "\n")) == ["tool_missing"]
    assert kinds(read("", text + "\n")) == ["tool_missing"]
