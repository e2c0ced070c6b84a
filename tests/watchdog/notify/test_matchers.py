"""Matchers: what Alertmanager's users write, and what it means for incidents of many nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.notify.labels import labels_of
from chipmedic_watchdog.notify.matchers import Matcher, concerns, covers, parse
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

RACK = {"node": frozenset({"n1", "n2"}), "severity": frozenset({"critical"})}


@pytest.mark.parametrize(
    ("text", "matcher"),
    [
        ('node="n1"', Matcher("node", "=", "n1")),
        ("node=n1", Matcher("node", "=", "n1")),
        (' kind =~ "memory[.].*" ', Matcher("kind", "=~", "memory[.].*")),
        ('user!="mei, \\"lin\\""', Matcher("user", "!=", 'mei, "lin"')),
        ("power_feed!~a|b", Matcher("power_feed", "!~", "a|b")),
        ('job=""', Matcher("job", "=", "")),
    ],
)
def test_a_matcher(text: str, matcher: Matcher) -> None:
    assert parse(text) == matcher
    assert parse(str(matcher)) == matcher


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node", "no matcher"),
        ('="n1"', "no matcher"),
        ('node="n1', "quotes"),
        ('node=~"("', "not a regular expression"),
        ('node=~"' + "a" * 501 + '"', "over 500"),
    ],
)
def test_what_is_none_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


@given(st.text(), st.sampled_from(["=", "!="]))
def test_any_value_comes_back_as_it_was(value: str, operator: str) -> None:
    matcher = Matcher("node", operator, value)
    assert parse(str(matcher)) == matcher
    assert matcher.fits(value) == (operator == "=")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        matcher = parse(text)
    except ValueError:
        return
    assert parse(str(matcher)) == matcher
    opposite = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[matcher.operator]
    for value in ("", matcher.value, text):
        assert matcher.fits(value) != replace(matcher, operator=opposite).fits(value)


@pytest.mark.parametrize(
    ("matchers", "is_concerned", "is_covered"),
    [
        (['node="n1"'], True, False),
        (['node=~"n1|n2"'], True, True),
        (['node!="n1"'], False, False),
        (['node!="n3"'], True, True),
        (['rack=""'], True, True),
        (['rack="r1"'], False, False),
        (['severity="critical"', 'node=~"n.*"'], True, True),
        (['severity="critical"', 'node="n3"'], False, False),
        ([], True, True),
    ],
)
def test_one_node_of_many_makes_a_route_and_no_silence(
    matchers: list[str], is_concerned: bool, is_covered: bool
) -> None:
    read = [parse(text) for text in matchers]
    assert concerns(read, RACK) == is_concerned
    assert covers(read, RACK) == is_covered


def test_the_labels_of_an_incident(database: Database) -> None:
    story.put_node(database, "gpu-017", rack="r7", cluster="north", kind="of the agent")
    story.put_chip(database)
    story.put_incident(database)
    story.put_fault(database)
    story.put_job(database)
    labels = labels_of(story.facts(database), "elsewhere")
    assert {name: set(values) for name, values in labels.items()} == {
        "severity": {"critical"},
        "kind": {"memory.uncorrectable"},
        "cause": {"chip.same"},
        "incident": {"inc-000042"},
        "node": {"gpu-017"},
        "job": {"slurm:8812"},
        "job_name": {"pretrain-7b"},
        "user": {"mei"},
        "vendor": {"nvidia"},
        "cluster": {"north"},
        "rack": {"r7"},
    }
