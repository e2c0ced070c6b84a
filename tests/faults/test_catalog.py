"""The catalog: every row readable, unknown codes kept, and a linter for each kind of defect."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults.ascend_codes import decode
from chipmedic.faults.catalog import (
    builtin_catalog,
    catalog_files,
    catalog_of,
    lookup,
    merge,
    read_catalog,
)
from chipmedic.faults.lint import main, problems_of, rule_problems
from chipmedic.model import Action, Severity
from fuzzing import examples


def test_what_ships_is_clean() -> None:
    assert problems_of(catalog_files()) == []
    assert rule_problems(builtin_catalog()) == []
    assert main() == 0


def test_every_family_is_there() -> None:
    rows = builtin_catalog()
    count = {p: sum(code.startswith(f"{p}:") for code in rows) for p in ("xid", "sxid", "ascend")}
    assert count["xid"] >= 170
    assert count["sxid"] >= 250
    assert count["ascend"] >= 900


@pytest.mark.parametrize(
    ("code", "kind", "severity", "action"),
    [
        ("xid:79", "chip.lost", Severity.CRITICAL, Action.REBOOT_NODE),
        ("xid:64", "memory.remap_failed", Severity.CRITICAL, Action.REPLACE_CHIP),
        ("xid:63", "memory.remap_pending", Severity.WARNING, Action.RESET_CHIP),
        ("xid:94", "memory.contained", Severity.CRITICAL, Action.RESTART_JOB),
        ("xid:95", "memory.uncorrectable", Severity.CRITICAL, Action.RESET_CHIP),
        ("xid:13", "app.fault", Severity.WARNING, Action.CHECK_APP),
        ("sxid:22013", "link.errors", Severity.INFO, Action.NONE),
        ("ascend:40F84E00", "chip.lost", Severity.CRITICAL, Action.RESET_CHIP),
        ("ascend:80e18402", "memory.remap_failed", Severity.CRITICAL, Action.ISOLATE_NODE),
        ("ascend:80E01805", "memory.correctable", Severity.INFO, Action.NONE),
        ("kernel:host.oom", "host.oom", Severity.CRITICAL, Action.CHECK_APP),
    ],
)
def test_codes_that_matter(code: str, kind: str, severity: Severity, action: Action) -> None:
    row = lookup(code)
    assert (row.kind, row.severity, row.action) == (kind, severity, action)
    assert row.is_known


def test_companions_are_marked() -> None:
    for code in ("xid:45", "xid:43", "xid:154", "xid:171", "hccl:EI0002", "train:nccl_timeout"):
        assert lookup(code).is_companion, code
    assert not lookup("xid:79").is_companion


def test_spelling_does_not_matter() -> None:
    assert lookup("sxid:020034") is lookup("sxid:20034")
    assert lookup("ascend:80e01801") is lookup("ascend:80E01801")


@pytest.mark.parametrize(
    ("code", "severity", "action"),
    [
        ("xid:99999", Severity.WARNING, Action.NONE),
        ("sxid:99999", Severity.WARNING, Action.NONE),
        ("ascend:80E60207", Severity.INFO, Action.NONE),  # HSM, temperature, above warning limit
        ("ascend:80E6020B", Severity.CRITICAL, Action.ISOLATE_NODE),  # above fatal limit
        ("ascend:A61FFFFF", Severity.CRITICAL, Action.ISOLATE_NODE),  # black box: severity unknown
        ("ascend:999999999", Severity.WARNING, Action.ISOLATE_NODE),  # a network code
        ("nobody:1", Severity.WARNING, Action.NONE),
    ],
)
def test_an_unknown_code_is_kept_and_says_so(code: str, severity: Severity, action: Action) -> None:
    row = lookup(code)
    assert not row.is_known
    assert (row.kind, row.severity, row.action) == ("chip.internal", severity, action)
    assert code in row.hint
    assert code in row.hint_zh


def test_an_event_id_is_decoded() -> None:
    event = decode("80E01801")
    assert event is not None
    assert (event.side, event.node, event.sensor, event.state) == (
        "device",
        "HBM/3DRAM",
        "Memory",
        1,
    )
    assert not event.is_harmless
    for other in ("A6145003", "110001023", "", "XYZ", "00000003"):
        assert decode(other) is None


def test_one_prefix_loads_its_own_files_only() -> None:
    assert set(catalog_of("xid")) == {c for c in builtin_catalog() if c.startswith("xid:")}
    assert catalog_of("nobody") == {}


GOOD = """
vendor = "nvidia"
prefix = "xid"
[sources.a]
title = "A sheet"
date = "2025-10"
[codes.1]
name = "one"
kind = "chip.lost"
severity = "critical"
action = "reboot_node"
hint = "Reboot the host and look at the slot."
hint_zh = "请重启主机，并检查对应插槽与供电线。"
source = "a"
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kind = "chip.lost"', 'kind = "chip.gone"', "unknown kind"),
        ('severity = "critical"', 'severity = "grave"', "GRAVE"),
        ('action = "reboot_node"', 'action = "pray"', "pray"),
        ('hint_zh = "请重启主机，并检查对应插槽与供电线。"', "", "hint_zh"),
        (
            'hint_zh = "请重启主机，并检查对应插槽与供电线。"',
            'hint_zh = "Reboot it, please."',
            "not Chinese",
        ),
        ('hint = "Reboot the host and look at the slot."', 'hint = "?"', "says too little"),
        ('source = "a"', 'source = "b"', "source b is not described"),
        ('date = "2025-10"', "", "needs title and date"),
        ('severity = "critical"', 'severity = "info"', "asks for reboot_node"),
        ('name = "one"', 'name = " "', "no name"),
        ("[codes.1]", "[codes.1", "x.toml"),
        ('hint = "Reboot the host and look at the slot."', 'hint = "@slot"', "slot"),  # no such
        ("[codes.1]", '[hints.slot]\nen = "Look."\nzh = "看。"\n[codes.1]', "hint slot is used by"),
        ("[codes.1]", '[sources.c]\ntitle = "C"\ndate = "2026"\n[codes.1]', "source c is used by"),
        ('kind = "chip.lost"', 'kind = "info"', "kind info with severity critical"),
    ],
)
def test_the_linter_stops_a_bad_row(old: str, new: str, problem: str) -> None:
    assert problems_of([("x.toml", GOOD)]) == []
    found = problems_of([("x.toml", GOOD.replace(old, new))])
    assert any(problem in line for line in found), found


def test_the_linter_finds_one_code_in_two_files() -> None:
    milder = GOOD.replace('severity = "critical"', 'severity = "warning"')
    assert "also in a.toml" in problems_of([("a.toml", GOOD), ("b.toml", GOOD)])[0]
    assert "contradicts a.toml" in problems_of([("a.toml", GOOD), ("b.toml", milder)])[0]
    rows = merge([read_catalog(milder, file="b"), read_catalog(GOOD, file="a")])
    assert rows["xid:1"].severity is Severity.CRITICAL


def test_the_linter_finds_patterns_without_rows() -> None:
    known = [code for code in builtin_catalog() if code != "kernel:host.oom"]
    assert rule_problems(known) == ["kernel:host.oom: a pattern without a row"]
    assert rule_problems([*builtin_catalog(), "kernel:x"]) == ["kernel:x: a row without a pattern"]


@settings(max_examples=examples(200))
@given(st.text(max_size=30) | st.sampled_from(sorted(builtin_catalog())).map(lambda c: c + "0"))
def test_a_code_without_a_row_of_its_own_is_kept_and_never_more_than_unknown(code: str) -> None:
    row = lookup(code)
    assert row.is_known == (row.code in builtin_catalog())
    if not row.is_known:
        assert row.code == code
        assert row.action is Action.NONE or row.vendor == "ascend"  # whose ids tell how grave
