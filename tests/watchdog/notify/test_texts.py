"""The notices as people read them, against files; CHIPMEDIC_WRITE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Severity
from chipmedic_watchdog.incidents.rules import builtin
from chipmedic_watchdog.notify import words as words_of
from chipmedic_watchdog.notify.facts import ChipFacts, FaultFacts, IncidentFacts, RecoveryFacts
from chipmedic_watchdog.notify.occasions import OTHERS, URGENCY
from chipmedic_watchdog.notify.settings import Language
from chipmedic_watchdog.notify.texts import age, clean, spans, write
from chipmedic_watchdog.notify.words import causes, command, words
from chipmedic_watchdog.recover.policy import Why
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

GOLDEN = Path(__file__).parent / "golden"
LANGUAGES = list(Language)


def memory_error(database: Database) -> str:
    story.put_node(database, "gpu-017", rack="r12", switch="leaf-3", power_feed="b")
    story.put_chip(database)
    story.put_incident(database)
    story.put_fault(database)
    story.put_fault(
        database,
        component="link:GPU-5f1e/2",
        kind="link.down",
        codes=["xid:74"],
        summary="link 2 is down",
        evidence=["NVRM: Xid (PCI:0000:5d:00): 74, NVLink: fatal error detected on link 2"],
    )
    story.put_job(database)
    story.put_job(database, "gpu-018", ranks=[24, 25, 26, 27, 28, 29, 30, 31])
    story.put_recovery(database)
    return "opened"


def ascend_link_notify(database: Database) -> str:
    story.put_node(database, "npu-03", rack="r2")
    story.put_chip(
        database,
        node="npu-03",
        uid="VDIE-77",
        vendor="ascend",
        model="Ascend 910B3",
        chip_index=5,
        serial=None,
        pci="0000:c1:00.0",
    )
    story.put_incident(
        database, kind="memory.uncorrectable", nodes=["npu-03"], jobs=[], title="HBM"
    )
    story.put_fault(
        database,
        node="npu-03",
        component="chip:VDIE-77",
        codes=["ascend:80E01801"],
        summary="event 80E01801: HBM multi-bit ECC",
        evidence=["event id=0x80e01801, severity=major"],
    )
    evidence = {"nodes": ["npu-03"], "jobs": []}
    story.put_recovery(database, mode="notify", state="not_taken", evidence=evidence)
    return "opened"


def hang_proposed(database: Database) -> str:
    story.put_node(database, "gpu-018")
    story.put_incident(
        database, kind="job.hung", nodes=["gpu-018"], title="slurm:8812 stands still"
    )
    story.put_fault(
        database,
        node="gpu-018",
        component="job:slurm:8812",
        kind="job.hung",
        job="slurm:8812",
        codes=[],
        source="jobs",
        summary="no step for 96 s, and the longest before was 7 s",
        evidence=["rank 24 was last seen at step 1240, phase train"],
    )
    story.put_job(database, "gpu-018", ranks=[24], pids=[771])
    story.put_recovery(
        database, mode="propose", state="proposed", evidence={"nodes": [], "why": "job"}
    )
    return "proposed"


def silent_rack(database: Database) -> str:
    nodes = [f"gpu-{number:03d}" for number in range(20, 36)]
    story.put_node(database, "gpu-020", rack="r14", switch="leaf-4")
    story.put_incident(
        database,
        kind="node.unreachable",
        cause="silence.group/1",
        nodes=nodes,
        jobs=[],
        title="16 nodes of rack r14 went silent",
    )
    for node in nodes:
        story.put_fault(
            database,
            node=node,
            component="host",
            kind="node.unreachable",
            codes=[],
            evidence=[],
            source="watchdog",
            summary="the stream ended and the agent has not come back for 2 s",
        )
    story.put_recovery(
        database,
        mode="act",
        state="not_taken",
        adapter="",
        evidence={"nodes": [], "jobs": [], "why": "silence_only"},
    )
    return "opened"


def held(database: Database) -> str:
    memory_error(database)
    story.change(
        database,
        story.schema.recoveries,
        story.schema.recoveries.c.id == "rec-000007",
        state="held",
        detail="isolate gpu-017: budget: 4 of 40 nodes are out already and the limit is 4",
    )
    return "held"


def resolved(database: Database) -> str:
    memory_error(database)
    story.change(
        database,
        story.schema.incidents,
        story.schema.incidents.c.id == "inc-000042",
        state="resolved",
        resolved_at=story.FAULT_AT + 4000,
        resolved_by="chipmedic",
        resolve_reason="every fault of it has cleared",
    )
    return "resolved"


def resolved_and_still_out(database: Database) -> str:
    resolved(database)
    story.put_isolation(database)
    return "resolved"


def given_back(database: Database) -> str:
    resolved(database)
    evidence = {"kind": "return", "jobs": [], "isolation": 1, "rule": ""}
    story.put_recovery(database, "rec-000008", state="done", evidence=evidence)
    return "recovered"


STORIES = [
    memory_error, ascend_link_notify, hang_proposed, silent_rack, held, resolved,
    resolved_and_still_out, given_back,
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("tell", STORIES)
def test_the_text(database: Database, tell: Callable[[Database], str], language: Language) -> None:
    occasion = tell(database)
    facts = story.facts(database)
    grouped = builtin().words_of(facts.cause, language.value)
    text = write(facts, occasion, words(language), now=story.NOW, grouped=grouped)
    path = GOLDEN / f"{tell.__name__}.{language.value}.txt"
    written = f"{text.title}\n\n{text.body}\n"
    if os.environ.get("CHIPMEDIC_WRITE_GOLDEN") == "1":
        path.write_text(written, encoding="utf-8")
    assert written == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("occasion", ["proposed", "recovered", "held", "stopped"])
def test_the_return_of_a_node_does_not_read_like_its_fault(
    database: Database, occasion: str
) -> None:
    given_back(database)
    text = write(story.facts(database), occasion, words(Language.EN), now=story.NOW)
    assert "gpu-017" in text.title
    assert "Evidence" not in text.body
    assert "First" not in text.body


def test_a_return_names_no_rule_for_it_has_none(database: Database) -> None:
    resolved(database)
    evidence = {"kind": "return", "jobs": [], "isolation": 1, "rule": ""}
    story.put_recovery(database, "rec-000008", state="running", evidence=evidence)
    text = write(story.facts(database), "updated", words(Language.EN), now=story.NOW)
    assert "chipmedic will give gpu-017 back now" in text.body
    assert "rule" not in text.body


def test_a_fault_that_is_back_is_not_answered_with_the_return_before_it(
    database: Database,
) -> None:
    memory_error(database)
    evidence = {"kind": "return", "jobs": [], "isolation": 1, "rule": ""}
    story.put_recovery(database, "rec-000008", state="done", evidence=evidence)
    text = write(story.facts(database), "reopened", words(Language.EN), now=story.NOW)
    assert "give gpu-017 back" not in text.body


def test_every_language_has_every_text() -> None:
    tables = [words(language).table for language in LANGUAGES]
    keys = [{section: set(table[section]) for section in table} for table in tables]
    assert keys[0] == keys[1]
    assert set(tables[0]["kinds"]) == set(KINDS)
    assert set(tables[0]["occasion"]) == {*URGENCY, *OTHERS}
    assert {why.value for why in Why} <= set(tables[0]["why"])


def test_placeholders_are_the_same_in_every_language() -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in words_of.Formatter().parse(text) if name}

    english, chinese = (words(language).table for language in LANGUAGES)
    for section, texts in english.items():
        for key, text in texts.items():
            assert names(text) == names(chinese[section][key]), f"{section}.{key}"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_first_command(kind: str) -> None:
    known = {"node": "n1", "index": 0, "die": 0, "pci": "0000:01:00.0"}
    for vendor in ("nvidia", "ascend", "amd", "hygon", "kunlun", "intel", "gaudi", "host", "new"):
        found = command(vendor, kind, known)
        assert found is not None
        assert "{" not in found.text.replace("${", "")
    assert command("nvidia", kind, {}) is not None, "also where the chip is not in the inventory"


def test_a_value_that_is_not_known_reaches_no_command() -> None:
    found = command("nvidia", "memory.uncorrectable", {"pci": None, "index": None})
    assert found is None or "None" not in found.text


def test_a_value_that_is_no_plain_word_reaches_no_command() -> None:
    found = command("nvidia", "memory.uncorrectable", {"pci": "0; rm -rf /", "index": 1})
    assert found is not None
    assert "rm -rf" not in found.text


@pytest.mark.parametrize(
    "kind", [k for k, row in KINDS.items() if row.severity >= Severity.WARNING]
)
def test_every_kind_that_people_are_told_of_has_a_cause(kind: str) -> None:
    for language in LANGUAGES:
        assert causes("single/1", kind, language)


def test_the_correlations_cause_goes_before_the_kinds() -> None:
    (first, *_) = causes("software.same_code/1", "chip.internal", Language.EN)
    assert "the same code came on several chips" in first[1]


def test_evidence_is_one_printable_line() -> None:
    assert clean("\x1b[31mred\x07\nnext\u202e") == "[31mred  next"
    assert len(clean("x" * 5000)) == 240


@pytest.mark.parametrize(
    ("seconds", "words_en"),
    [
        (-3, "0 s"),
        (4.2, "4 s"),
        (119, "119 s"),
        (300, "5 min"),
        (9000, "2.5 h"),
        (200_000, "2.3 days"),
    ],
)
def test_ages(seconds: float, words_en: str) -> None:
    assert age(seconds, words(Language.EN)) == words_en


def test_spans() -> None:
    assert spans((3, 1, 2, 9, 7, 2)) == "1-3,7,9"


TEXT = st.text(max_size=30)
COMPONENTS = TEXT | st.sampled_from(
    ["host", "chip:a", "link:a/3", "link:", "nic:mlx5_0/1", "disk:/data", "job:slurm:1", "x:"]
)
FAULTS = st.builds(
    FaultFacts,
    id=st.integers(1, 9),
    node=TEXT,
    component=COMPONENTS,
    kind=st.sampled_from(sorted(KINDS)) | TEXT,
    severity=st.sampled_from(list(Severity)),
    summary=TEXT,
    codes=st.lists(TEXT | st.just("xid:48"), max_size=2).map(tuple),
    evidence=st.lists(TEXT, max_size=12).map(tuple),
    job=st.none() | TEXT,
    chip=st.none()
    | st.builds(
        ChipFacts,
        vendor=TEXT,
        model=TEXT,
        index=st.integers(0, 99),
        die=st.integers(0, 1),
        serial=st.none() | TEXT,
        pci=st.none() | TEXT,
    ),
)
RECOVERIES = st.builds(
    RecoveryFacts,
    id=TEXT,
    mode=st.sampled_from(["observe", "notify", "propose", "act"]),
    state=st.sampled_from(
        ["planned", "proposed", "running", "verifying", "done", "held", "stopped", "not_taken"]
    ),
    adapter=st.sampled_from(["", "slurm"]),
    reason=TEXT,
    detail=TEXT,
    updated_at=st.just(0.0),
    evidence=st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["recover", "return"]),
            "nodes": st.lists(TEXT, max_size=2),
            "jobs": st.lists(TEXT, max_size=2),
            "why": st.sampled_from([w.value for w in Why]) | TEXT,
            "approved_by": TEXT,
        },
    ),
)
INCIDENT = IncidentFacts(
    id="inc-000001",
    kind="chip.lost",
    cause="single/1",
    severity=Severity.CRITICAL,
    title="t",
    state="open",
    nodes=("n1",),
    fault_at=0.0,
    opened_at=0.0,
    resolved_at=None,
    resolved_by=None,
    resolve_reason=None,
    revision=1,
)


@given(
    st.lists(FAULTS, max_size=4).map(tuple),
    st.none() | RECOVERIES,
    st.sampled_from(URGENCY),
    st.sampled_from(LANGUAGES),
    st.lists(TEXT, max_size=3).map(tuple),
    st.sampled_from(["open", "resolved"]),
)
def test_any_input_becomes_a_text(
    faults: tuple[FaultFacts, ...],
    recovery: RecoveryFacts | None,
    occasion: str,
    language: Language,
    nodes: tuple[str, ...],
    state: str,
) -> None:
    facts = replace(
        INCIDENT, faults=faults, recovery=recovery, nodes=nodes, state=state, resolved_at=9.0
    )
    text = write(facts, occasion, words(language), now=10.0)
    assert text.title
    assert "inc-000001" in text.body
    assert "\n" not in text.title
    assert "\x1b" not in text.body
