"""The file of escalation rules: its version, its values, and a linter for each kind of defect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.faults.escalation import builtin_rules, read_rules, rules_text
from chipmedic.faults.escalation_lint import escalation_problems
from chipmedic.model import Action, Severity


def test_what_ships_is_clean() -> None:
    assert escalation_problems(rules_text()) == []


def test_what_ships_holds_the_vendors_rules() -> None:
    rules = builtin_rules()
    repeat = {rule.name: (len(rule.codes), rule.times) for rule in rules.repeat}
    assert repeat["ascend.twice"] == (41, 2)
    assert repeat["ascend.hbm_parity"] == (1, 3)
    assert repeat["ascend.port_flaps"] == (1, 5)
    assert [(r.bad_seconds, r.good_seconds) for r in rules.lasting] == [(20, 60)]
    assert {r.within_seconds for r in rules.together} == {300}
    assert [r.within_seconds for r in rules.companions] == [5]
    assert [(r.vendor, r.worn, r.spent) for r in rules.pages] == [("ascend", 16, 64)]
    assert rules.software_seconds == 30


GOOD = """
version = 1
software_seconds = 30
[sources.a]
title = "A manual"
date = "2026-08"
[[repeat]]
name = "one"
codes = ["xid:13"]
times = 3
window_seconds = 3600
kind = "chip.internal"
severity = "warning"
action = "reset_chip"
words = "fails again and again"
source = "a"
[[lasting]]
name = "two"
vendor = "ascend"
codes = ["ascend:81078603"]
bad_seconds = 20
good_seconds = 60
kind = "link.down"
words = "has been down for too long"
source = "a"
[[together]]
name = "three"
trigger = ["xid:31"]
with = ["xid:13"]
within_seconds = 60
blame = "trigger"
words = "failed in two ways at once"
source = "a"
[[companions]]
name = "four"
vendor = "ascend"
of = ["memory.uncorrectable"]
within_seconds = 5
source = "a"
[[pages]]
vendor = "ascend"
worn = 16
spent = 64
source = "a"
"""


def test_a_rule_is_read_with_its_outcome() -> None:
    rules = read_rules(GOOD)
    outcome = rules.repeat[0].outcome
    assert (outcome.kind, outcome.severity, outcome.action) == (
        "chip.internal",
        Severity.WARNING,
        Action.RESET_CHIP,
    )
    assert rules.lasting[0].outcome.severity is None  # as the kind says
    assert rules.together[0].blames_trigger


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("version = 1", "version = 2", "version 2; this chipmedic reads 1"),
        ("version = 1", "", "version None"),
        ("software_seconds = 30", "", "software_seconds"),
        ("software_seconds = 30", "software_seconds = 0", "software_seconds: 0"),
        ('codes = ["xid:13"]', 'codes = ["xid:99999"]', "xid:99999 is in no catalog"),
        ('codes = ["xid:13"]', "codes = []", "no codes"),
        ('codes = ["xid:13"]', "", "repeat one"),
        ("times = 3", "times = 1", "times: 1 is not in 2 to 8"),
        ("times = 3", "times = 9", "times: 9"),
        ("times = 3", "tmies = 3", "tmies"),
        ("window_seconds = 3600", "window_seconds = 90000", "90000 s is no window"),
        ("window_seconds = 3600", "window_seconds = 0", "0 s is no window"),
        ('kind = "chip.internal"', 'kind = "chip.broken"', "unknown kind 'chip.broken'"),
        ('severity = "warning"', 'severity = "grave"', "GRAVE"),
        ('severity = "warning"', 'severity = "info"', "tells nobody"),
        ('action = "reset_chip"', 'action = "pray"', "pray"),
        ('words = "fails again and again"', 'words = "bad"', "words say too little"),
        ('words = "fails again and again"', "", "words"),
        ("times = 3", 'times = 3\nsame = "moon"', "same is unit"),
        ("times = 3", "times = 3\nquiet_seconds = -1", "quiet_seconds must be positive"),
        ("bad_seconds = 20", "bad_seconds = 0", "must be positive"),
        ('kind = "link.down"', "", "a state needs a kind"),
        ('with = ["xid:13"]', 'with = ["xid:31"]', "xid:31 is on both sides"),
        ('blame = "trigger"', 'blame = "me"', "blame is trigger or with"),
        ('of = ["memory.uncorrectable"]', 'of = ["memory.bad"]', "unknown kind 'memory.bad'"),
        ("spent = 64", "spent = 16", "must be below"),
        ('name = "two"', 'name = "one"', "2 rules of one name"),
        ('date = "2026-08"', "", "needs title and date"),
        ('source = "a"\n[[lasting]]', 'source = "b"\n[[lasting]]', "source b is not described"),
    ],
)
def test_the_linter_stops_a_bad_rule(old: str, new: str, problem: str) -> None:
    assert escalation_problems(GOOD) == []
    found = escalation_problems(GOOD.replace(old, new, 1))
    assert any(problem in line for line in found), found


def test_the_linter_stops_two_rules_that_count_the_same() -> None:
    again = GOOD[GOOD.index("[[repeat]]") : GOOD.index("[[lasting]]")].replace('"one"', '"uno"')
    assert escalation_problems(GOOD + again) == [
        "escalation.toml: uno: xid:13: one counts it in the same way"
    ]
    other = again.replace("times = 3", 'times = 3\nsame = "unit"')
    assert escalation_problems(GOOD + other) == []


@given(st.data())
def test_any_input_is_read_or_refused_with_words(data: st.DataObject) -> None:
    """A file that somebody has damaged anywhere never crashes the linter."""
    begin = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(begin, len(GOOD)))
    damaged = GOOD[:begin] + data.draw(st.text(max_size=6)) + GOOD[end:]
    for problem in escalation_problems(damaged):
        assert problem.startswith("escalation.toml")
