"""Xid 144 to 150: the registers give the row, the word counts only where they say nothing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.faults.catalog import catalog_of, catalog_text
from chipmedic.faults.explain import explain_stream
from chipmedic.faults.kernel_lines import read_line
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.lint import register_problems
from chipmedic.faults.nvlink5 import XIDS, decode, described, read_patterns
from chipmedic.model import Action, Severity

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL


def line(xid: int, unit: str, word: str, interrupt: int, status: int, link: int = 7) -> str:
    registers = f"0x{interrupt:08x} 0x{status:08x} 0x00000000 0x00000000 0x00000000 0x00000000"
    return (
        f"NVRM: Xid (PCI:0009:01:00): {xid}, {unit:<15} {word:<8} XC0 i0 Link {link:02} "
        f"({registers})"
    )


@pytest.mark.parametrize(
    ("given_line", "code", "kind", "severity", "action"),
    [
        # an uncorrectable error of the SAW unit, with a busy upper half of the register
        (
            line(144, "SAW_MVB", "Fatal", 0x000C1021, 0x2),
            "144.SAW_MVB.00000002",
            "link.down",
            CRITICAL,
            Action.RESET_CHIP,
        ),
        # corrected by the unit itself
        (
            line(144, "SAW_MVB", "Nonfatal", 0x00000021, 0x4),
            "144.SAW_MVB.00000004",
            "link.errors",
            INFO,
            Action.NONE,
        ),
        # Nonfatal for the link, and the program dies all the same
        (
            line(145, "RLW_SRC_TRACK", "Nonfatal", 0x040A08E2, 0x4),
            "145.RLW_SRC_TRACK.00000004",
            "link.errors",
            CRITICAL,
            Action.RESTART_JOB,
        ),
        # bit 10 of the old layout turns an error to be ignored into one that needs a reset
        (
            line(145, "RLW_RXPIPE", "Fatal", 0x000004C2, 0x1),
            "145.RLW_RXPIPE.00000001.second",
            "link.down",
            CRITICAL,
            Action.RESET_CHIP,
        ),
        # the new layout (R575): unit code 0x0d in bits 6:0
        (
            line(146, "TLW_TX_PIPE1", "Nonfatal", 0x0000000D, 0x2),
            "146.TLW_TX_PIPE1.00000002",
            "link.errors",
            WARNING,
            Action.NONE,
        ),
        # reason 33 in bits 25:20: the other end caused it
        (
            line(149, "NETIR_LINK_DOWN", "Fatal", 0x021001C6, 0x0),
            "149.NETIR_LINK_DOWN.33",
            "link.down",
            CRITICAL,
            Action.RESET_CHIP,
        ),
        # taken down on purpose: grave for the job, nothing to repair
        (
            line(149, "NETIR_LINK_EVT", "Fatal", 0x026001C6, 0x0),
            "149.NETIR_LINK_DOWN.38",
            "link.down",
            CRITICAL,
            Action.NONE,
        ),
        (
            line(149, "NETIR_BER_EVENT", "Nonfatal", 0x00000013, 0x2),
            "149.NETIR_BER_EVENT.00000002",
            "link.errors",
            WARNING,
            Action.NONE,
        ),
        (
            line(150, "MSE_WATCHDOG", "Fatal", 0x00000000, 0x0, link=-1),
            "150.MSE_WATCHDOG.00000000",
            "chip.firmware",
            CRITICAL,
            Action.RESET_CHIP,
        ),
    ],
)
def test_the_registers_name_the_row(
    given_line: str, code: str, kind: str, severity: Severity, action: Action
) -> None:
    [finding] = read_line(given_line)
    row = described(finding.code, finding.message)
    assert row.code == f"nvlink5:{code}"
    assert (finding.kind, finding.severity, finding.action) == (kind, severity, action)
    assert finding.hint == row.hint
    assert finding.pci == "0009:01:00"
    assert finding.code == f"xid:{given_line.split(': ')[2].split(',')[0]}"


def test_several_flags_at_once_count_as_the_gravest() -> None:
    row = decode(145, line(145, "RLW_REMAP", "Nonfatal", 0x82, 0x100 | 0x40 | 0x1))
    assert row is not None
    assert row.code == "nvlink5:145.RLW_REMAP.00000040"


def test_a_status_that_is_a_number_is_not_taken_apart() -> None:
    """The MFDE unit counts its causes 1, 3, 4, 5, 7; 6 is none of them, not 4 and 2."""
    assert decode(149, line(149, "NETIR_MFDE_EVENT", "Fatal", 0x246, 0x6)) is None


def test_a_printed_unit_decides_between_the_layouts() -> None:
    """0xa5 is RLW_RSPCOL's register of no driver; a unit nobody knows takes every row that fits."""
    assert decode(145, line(145, "RLW_RSPCOL", "Fatal", 0x00000003, 0x2)) is None
    unknown = decode(145, line(145, "RLW_NEW", "Fatal", 0x000000A2, 0x2))
    assert unknown is not None
    assert unknown.code == "nvlink5:145.RLW_RSPCOL.00000002"


@pytest.mark.parametrize(
    ("given_line", "kind", "severity", "action"),
    [
        # cut inside the second register
        (
            line(145, "RLW_REMAP", "Fatal", 0x82, 0x200)[:-48],
            "link.down",
            CRITICAL,
            Action.RESET_CHIP,
        ),
        (line(145, "RLW_REMAP", "Nonfatal", 0x82, 0x40)[:75], "link.errors", WARNING, Action.NONE),
        # in no row of the table
        (
            line(149, "NETIR_LINK_DOWN", "Fatal", 0x03F001C6, 0x0),
            "link.down",
            CRITICAL,
            Action.RESET_CHIP,
        ),
        # the word is graver than the registers: as grave as the word, the action is the table's
        (line(145, "RLW_REMAP", "Fatal", 0x82, 0x200), "link.down", CRITICAL, Action.NONE),
        # the registers are graver than the word
        (line(145, "RLW_REMAP", "Nonfatal", 0x82, 0x80), "link.down", CRITICAL, Action.RESET_CHIP),
    ],
)
def test_where_word_and_registers_disagree_or_say_nothing(
    given_line: str, kind: str, severity: Severity, action: Action
) -> None:
    [finding] = read_line(given_line)
    assert (finding.kind, finding.severity, finding.action) == (kind, severity, action)


def test_every_row_of_the_table_is_reached_by_a_line_of_its_own() -> None:
    """In the layout of either driver, by the unit that the row names."""
    patterns = read_patterns(catalog_text("nvlink5.toml"))
    reached = set()
    for pattern in patterns:
        own = catalog_of("nvlink5")[pattern.code]
        for _, interrupt in pattern.layouts:
            for unit in pattern.units:
                status = min(pattern.status, default=0)
                row = decode(pattern.xid, line(pattern.xid, unit, "Nonfatal", interrupt, status))
                assert row is not None, pattern.code
                assert row.severity >= own.severity
                reached.add(row.code)
    assert reached == {pattern.code for pattern in patterns}


def test_a_code_is_described_by_the_first_text_that_tells() -> None:
    told = line(149, "NETIR_LINK_DOWN", "Fatal", 0x021001C6, 0x0)
    assert described("xid:149", "xid 149 by NVML", told).code == "nvlink5:149.NETIR_LINK_DOWN.33"
    assert described("xid:149").code == "xid:149"
    assert described("xid:79", told).code == "xid:79"
    assert not described("xid:", told).is_known


def test_explain_shows_what_the_registers_say() -> None:
    text = line(149, "NETIR_LINK_DOWN", "Fatal", 0x021001C6, 0x0)
    [cause] = explain_stream(io.BytesIO(text.encode())).causes
    assert "OTHER end" in cause.root.row.hint
    assert "33" in cause.root.row.name


GOOD = """
vendor = "nvidia"
prefix = "nvlink5"
[sources.a]
title = "A sheet"
date = "2025-10"
[codes."144.A"]
name = "one"
kind = "link.down"
severity = "critical"
action = "reset_chip"
hint = "Reset the GPUs of the group."
hint_zh = "请复位该组的全部 GPU 并检查链路。"
source = "a"
xid = 144
units = ["A"]
v1 = [0xff, 0x21]
v2 = [0x7f, 0x01]
status = [1]
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("xid = 144", "xid = 143", "144 to 150"),
        ('units = ["A"]', "units = []", "units must name one"),
        ("v2 = [0x7f, 0x01]", "", "v2"),
        ("v1 = [0xff, 0x21]", "v1 = [0x0f, 0x21]", "outside its mask"),
        ("v1 = [0xff, 0x21]", 'v1 = "0xff"', "144.A"),
    ],
)
def test_the_linter_stops_a_bad_pattern(old: str, new: str, problem: str) -> None:
    assert register_problems(GOOD) == []
    [found] = register_problems(GOOD.replace(old, new))
    assert problem in found


def test_the_linter_stops_two_rows_that_claim_one_line() -> None:
    twin = GOOD[GOOD.index("[codes") :].replace("144.A", "144.B")
    assert register_problems(GOOD + twin) == []  # the same meaning twice does no harm
    milder = twin.replace("critical", "warning").replace("reset_chip", "none")
    assert "contradicts nvlink5:144.A" in register_problems(GOOD + milder)[0]
    assert register_problems(GOOD + milder.replace("status = [1]", "status = [2]")) == []


UNITS = sorted({u for p in read_patterns(catalog_text("nvlink5.toml")) for u in p.units})


@given(
    st.sampled_from(XIDS),
    st.one_of(st.sampled_from(UNITS), st.text(max_size=12)),
    st.sampled_from(["Fatal", "Nonfatal", "Non-fatal", ""]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 140),
)
def test_any_input_is_read(
    xid: int, unit: str, word: str, interrupt: int, status: int, cut: int
) -> None:
    for finding in read_line(line(xid, unit, word, interrupt, status)[:cut]):
        assert finding.code == f"xid:{xid}" or len(finding.code) < len(f"xid:{xid}")
        assert finding.kind in KINDS
    row = decode(xid, line(xid, unit, word, interrupt, status))
    assert row is None or row.code.startswith(f"nvlink5:{xid}.")
