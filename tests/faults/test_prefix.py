"""Every form of prefix that a log line wears, and lines that only look as if they wore one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults.prefix import strip_prefix
from fuzzing import examples

WORDS = "nvme nvme3: I/O 71 QID 2 timeout, reset controller"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "4,812,91827364,-;",
        "4,812,91827364,-,caller=T1;",
        "<4>",
        "<6> [  91.827364] ",
        "[   91.827364] ",
        "[91827.364554][   C3] ",
        "[   91.827364] [  T812] ",
        "[  +0.000311] ",
        "[Tue Mar  4 07:08:09 2025] ",
        "kern  :warn  : [   91.827364] ",
        "kern  :err   : [Tue Mar  4 07:08:09 2025] ",
        "kern  :warn  : 2025-03-04T07:08:09,123456+01:00 ",
        "2025-03-04T07:08:09.123456+01:00 rack2-n7 kernel: ",
        "2025-03-04 07:08:09 rack2-n7 kernel: [   91.827364] ",
        "Mar  4 07:08:09 rack2-n7 kernel: ",
        "Mar  4 07:08:09 rack2-n7 kernel: [   91.827364] ",
        "Mar  4 2025 07:08:09 rack2-n7 kernel: ",
        "3月  4 07:08:09 rack2-n7 kernel: ",
        "Mär  4 07:08:09 rack2-n7 kernel: ",
        "[ 4711.081516] rack2-n7 kernel: ",
        "Wed 2026-03-04 07:08:09 CET rack2-n7 kernel: ",
        "1772608089.123456 rack2-n7 kernel: ",
        "[Mar 04 2026 07:08:09] ",
        "[Mar04 07:08] ",
        "07:08:09 ",
        "kernel: ",
        "kernel:",
        "rack2-n7 kernel: ",
        "rack2-n7: [   91.827364] ",
        "<4>1 2025-03-04T07:08:09Z rack2-n7 kernel - - - ",
        "2025-03-04T07:08:09.123+08:00|err|kernel[-]|[91.827364] ",
        "[EVENT] KERNEL(71,sklogd):2025-03-04-07:08:09.123.456 [klogd.c:248][91.827364] ",
        "[2025-03-04-07:08:09.123456] ",
        "/var/log/kern.log:Mar  4 07:08:09 rack2-n7 kernel: ",
        "2025-03-04T07:08:09.123456789Z stdout F ",
        "\x1b[32m[   91.827364] \x1b[0m",
    ],
)
def test_what_the_logger_added_is_taken_off(prefix: str) -> None:
    assert strip_prefix(prefix + WORDS + "\n").text == WORDS


@pytest.mark.parametrize(
    "line",
    [
        "nvme3n1: I/O Cmd(0x2) @ LBA 7, 8 blocks, I/O Error (sct 0x3 / sc 0x71)",
        "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:4711]",
        "xe 0000:4d:00.0: [drm] GT0: Timedout job: seqno=71",
        "[ascend] [ERROR] [devdrv] Device is abnormal. (dev_id=5)",
        "[drm] GPU HANG: ecode 9:1:85dffffb",
    ],
)
def test_words_that_begin_like_a_prefix_stay(line: str) -> None:
    assert strip_prefix(line).text == line
    assert strip_prefix(f"[   91.827364] {line}").text == line
    assert strip_prefix(f"Mar  4 07:08:09 n7 kernel: {line}").text == line


def test_what_the_prefix_says_is_kept() -> None:
    record = strip_prefix(f"3,812,91827364,-;{WORDS}")
    assert (record.priority, record.sequence, record.uptime_seconds) == (3, 812, 91.827364)
    syslog = strip_prefix("Mar  4 07:08:09 n7 systemd-networkd[71]: ib0: Lost carrier")
    assert (syslog.host, syslog.program, syslog.stamp) == (
        "n7",
        "systemd-networkd",
        "Mar  4 07:08:09",
    )
    assert syslog.text == "ib0: Lost carrier"


def test_a_repeat_is_counted_and_unwrapped() -> None:
    line = strip_prefix(f"Mar  4 07:08:09 n7 kernel: message repeated 12 times: [ {WORDS}]")
    assert (line.text, line.count) == (WORDS, 12)


@pytest.mark.parametrize("times", ["0", "99999999999999999999"])
def test_a_silly_repeat_stays_a_sane_number(times: str) -> None:
    line = strip_prefix(f"kernel: message repeated {times} times: [ {WORDS}]")
    assert 1 <= line.count <= 1_000_000


@settings(max_examples=examples(200))
@given(st.text(max_size=300))
def test_any_text_is_a_line(text: str) -> None:
    stripped = strip_prefix(text)
    assert stripped.text in text
    assert stripped.text == stripped.text.strip()
    assert 1 <= stripped.count <= 1_000_000
    for number in (stripped.priority, stripped.sequence, stripped.uptime_seconds):
        assert number is None or 0 <= number < math.inf


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize(
    "form", ["6,{},1,-;text", "6,1,{},-;text", "[{}.123456] text", "<{}>text", "6,1,1,-;[ {}.1] x"]
)
def test_an_endless_number_is_no_prefix_and_breaks_nothing(form: str, digits: int) -> None:
    stripped = strip_prefix(form.format("9" * digits))
    assert stripped.sequence is None or stripped.sequence == 1
    assert stripped.uptime_seconds is None or stripped.uptime_seconds < 1
