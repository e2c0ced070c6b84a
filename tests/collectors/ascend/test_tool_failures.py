"""What npu-smi and hccn_tool say when they fail, and what of a chip is then known."""

from __future__ import annotations

import pytest

from ascend_story import answer, kinds
from chipmedic.tool_report import Health, ProblemKind


@pytest.mark.parametrize(
    ("text", "stderr", "exit_code", "kind"),
    [
        ("dcmi module initialize failed. ret is -8005\n", "", 187, ProblemKind.DRIVER_DOWN),
        ("DrvMngGetConsoleLogLevel failed. (ret=4)\n", "", None, ProblemKind.DRIVER_DOWN),
        (
            "DrvMngGetConsoleLogLevel failed. (ret=4)\n"
            "dcmi model initialized failed, because the device is used. ret is -8020\n",
            "",
            172,
            ProblemKind.PERMISSION,
        ),
        ("npu get board type failed. ret is -9005\n", "", 211, ProblemKind.PERMISSION),
        ("There is no NPU card on this server.\n", "", 0, ProblemKind.NO_DEVICES),
        ("Failed to get card number.\n", "", 211, ProblemKind.NO_DEVICES),
        ("Failed to get device type.\n", "", 180, ProblemKind.PARTIAL),
        ("", "npu-smi: error while loading shared libraries: x.so\n", 127, ProblemKind.DRIVER_DOWN),
        ("", "bash: npu-smi: command not found\n", 127, ProblemKind.TOOL_MISSING),
        ("", "sh: 1: npu-smi: not found\n", 127, ProblemKind.TOOL_MISSING),
        (
            "",
            "timeout: failed to run command 'npu-smi': No such file or directory\n",
            127,
            ProblemKind.TOOL_MISSING,
        ),
        ("", "npu-smi: unrecognized option '--all'\n", 2, ProblemKind.UNSUPPORTED),
        ("No devices found\n", "", 1, ProblemKind.NO_DEVICES),
        ("", "bash: /usr/local/bin/npu-smi: Permission denied\n", 126, ProblemKind.PERMISSION),
        ("", "", 0, ProblemKind.MALFORMED),
        ("", "", None, ProblemKind.MALFORMED),
        ("", "", 187, ProblemKind.DRIVER_DOWN),
        ("", "", 180, ProblemKind.CHIP_LOST),
        ("", "", 137, ProblemKind.TRUNCATED),
        ("", "", 1, ProblemKind.MALFORMED),
        ("Segmentation fault\n", "", 139, ProblemKind.TRUNCATED),
        ("sudo: a password is required\n", "", 1, ProblemKind.PERMISSION),
        ("Something new happened.\n", "", 1, ProblemKind.MALFORMED),
    ],
)
def test_a_summary_that_failed_has_no_chips_and_one_problem(
    text: str, stderr: str, exit_code: int | None, kind: ProblemKind
) -> None:
    report = answer(text, stderr=stderr, exit_code=exit_code)
    assert report.chips == []
    assert kinds(report) == {kind}


@pytest.mark.parametrize(
    ("text", "stderr", "kind"),
    [
        ("Invalid card id.\nUsage: npu-smi info <watch|-t type>\n", "", ProblemKind.CHIP_LOST),
        ("", "The device 9 does not exist.\n", ProblemKind.CHIP_LOST),
        ("dcmi get failed. ret is -8008\n", "", ProblemKind.CHIP_LOST),
        ("This device does not support querying topo.\n", "", ProblemKind.UNSUPPORTED),
        ("Error parameter of -t\nUsage: npu-smi info <watch>\n", "", ProblemKind.UNSUPPORTED),
        ("This command can be executed only by the root user.\n", "", ProblemKind.PERMISSION),
        ("This command cannot be executed on a VM or container.\n", "", ProblemKind.PERMISSION),
        ('Failed to query "health" result.\n', "", ProblemKind.PARTIAL),
    ],
)
def test_one_chip_that_failed(text: str, stderr: str, kind: ProblemKind) -> None:
    report = answer(text, "npu-smi info -t health -i 1 -c 0", stderr=stderr, exit_code=None)
    assert report.chips == []
    assert kinds(report) == {kind}


def test_hccn_tool_that_is_busy_says_nothing_of_the_port() -> None:
    report = answer(
        "", "hccn_tool -i 1 -link -g", stderr="hccn_tool is busy, please try again.\n", exit_code=11
    )
    assert report.chips == []
    assert kinds(report) == {ProblemKind.PARTIAL}


def test_a_chip_that_does_not_answer_in_the_card_form_is_unknown() -> None:
    text = "\tNPU ID : 7\n\tChip Count : 1\nFailed to query npu chip: 0 info.\n"
    report = answer(text, "npu-smi info -t common -i 7")
    assert [(chip.index, chip.health) for chip in report.chips] == [(7, Health.UNKNOWN)]
    assert kinds(report) == {ProblemKind.PARTIAL}
