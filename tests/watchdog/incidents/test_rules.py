"""Files of rules: what ships, what a site may change, and that every problem is told at once."""

from __future__ import annotations

import pytest

from chipmedic.errors import ConfigError
from chipmedic_watchdog.incidents.predicates import PREDICATES
from chipmedic_watchdog.incidents.rules import builtin, load_rules, read

OWN = """
name = "here"
version = 3
extends = "chipmedic"
without = ["job.same_condition"]

[[rules]]
name = "software.same_code"
version = 9
weight = 6
window_seconds = 5
when = "same_code"
en = "x"
zh = "y"

[[rules]]
name = "shared.cooling"
version = 1
weight = 4
window_seconds = 120
when = "shared_label"
parameters = { labels = ["cdu"], kinds = ["thermal."] }
en = "x"
zh = "y"
"""


def test_what_ships_uses_every_predicate_and_has_words() -> None:
    rules = builtin()
    assert {rule.row.when for rule in rules.rules} == PREDICATES.keys()
    assert all(rule.row.en and rule.row.zh for rule in rules.rules)
    assert len({rule.row.name for rule in rules.rules}) == len(rules.rules)
    assert load_rules(None) is rules


def test_a_site_changes_single_rules() -> None:
    rules = read(OWN, path="own.toml")
    names = [rule.row.name for rule in rules.rules]
    assert names[0] == "shared.cooling", "new rules are tried first"
    assert "job.same_condition" not in names
    assert len(names) == len(builtin().rules)
    changed = rules.of("software.same_code/1")
    assert changed is not None
    assert (changed.id, changed.row.window_seconds) == ("software.same_code/9", 5)
    assert rules.precedence("job.hung")[0] == 4
    assert rules.id == "here/3"


def test_a_cause_of_a_rule_that_is_gone_weighs_least() -> None:
    assert builtin().heavier("gone.rule/2", "single/1") == "single/1"
    assert builtin().heavier("job.root/0", "single/1") == "job.root/0"


def test_every_problem_is_told_at_once() -> None:
    wrong = OWN.replace("[\"cdu\"]", "[]").replace("thermal.", "termal.").replace(
        "same_code\"\nen", "same_cod\"\nen"
    ).replace("job.same_condition", "job.same_conditoin")  # fmt: skip
    with pytest.raises(ConfigError) as refusal:
        read(wrong + BAD_PAIR, path="own.toml")
    text = str(refusal.value)
    for words in (
        "own.toml", "'same_cod' is unknown; did you mean same_code?", "labels: at least one",
        "'termal.' begins no kind of fault", "did you mean job.same_condition?",
        "first.codes: 'ascend:FFFFFFFF' is in no catalog", "second: kinds or codes are needed",
        "shared.cooling stands there twice",
    ):  # fmt: skip
        assert words in text, words


BAD_PAIR = """
[[rules]]
name = "shared.cooling"
version = 1
weight = 4
window_seconds = 120
when = "pair"
parameters = { across = "job", first = { codes = ["ascend:FFFFFFFF"] }, second = {} }
en = "x"
zh = "y"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 9", "version = 0", "version: 0 is not 1 or more"),
        ("window_seconds = 5", "window_seconds = -5", "window_seconds: -5 is less than 0"),
        ('en = "x"', 'title = "{who}"\nen = "x"', "title: {who} is unknown"),
        ('en = "x"', 'severity = "bad"\nen = "x"', "severity: 'bad' is not warning or critical"),
        ('extends = "chipmedic"', "", "nearness: required"),
        ('extends = "chipmedic"', 'extends = "other"', 'there is only "chipmedic"'),
        ("weight = 6", "wieght = 6", "did you mean weight?"),
        ('zh = "y"', "", "zh: required"),
        ('labels = ["cdu"]', 'labels = ["cdu"], nodes = 3', "nodes: unknown key"),
    ],
)
def test_a_problem_names_rule_and_key(old: str, new: str, words: str) -> None:
    assert old in OWN
    with pytest.raises(ConfigError, match=words.replace("{", "\\{")):
        read(OWN.replace(old, new, 1), path="own.toml")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules("/nowhere/rules.toml")
