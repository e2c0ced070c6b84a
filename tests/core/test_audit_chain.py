"""The audit's chain: whatever is done to it afterwards shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chipmedic.audit_chain import Head, entry_hash, verify

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ACTS = st.lists(
    st.tuples(
        st.floats(0, 2e9), st.text(max_size=5), st.text(max_size=5), st.dictionaries(
            st.text(max_size=4), VALUES, max_size=2
        )
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def chain(acts: list[tuple[float, str, str, dict[str, Any]]]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    last = Head()
    for at, who, target, detail in acts:
        entry = {
            "id": last.seq + 1, "at": at, "who": who, "via": "", "act": "approve",
            "target": target, "detail": detail, "previous": last.hash,
        }  # fmt: skip
        entry["hash"] = entry_hash(entry)
        entries.append(entry)
        last = Head(last.seq + 1, entry["hash"])
    return entries


def head_of(entries: list[dict[str, Any]]) -> Head:
    return Head(entries[-1]["id"], entries[-1]["hash"])


@given(ACTS)
def test_what_was_written_is_whole_also_after_its_way_through_json(acts) -> None:
    entries = json.loads(json.dumps(chain(acts)))
    found = verify(entries, [head_of(entries), Head(1, entries[0]["hash"])])
    assert found.problems == ()
    assert found.head == head_of(entries)


@given(ACTS, st.data())
def test_a_change_anywhere_is_found(acts, data) -> None:
    entries = chain(acts)
    victim = data.draw(st.sampled_from(entries))
    name, value = data.draw(
        st.sampled_from(
            [("who", "mallory"), ("at", 1.5), ("target", "another node"), ("via", "loopback"),
             ("act", "decline"), ("detail", {"why": "nothing"})]
        )
    )  # fmt: skip
    assume(victim[name] != value)
    victim[name] = value
    assert verify(entries).problems == (f"entry {victim['id']}: changed after it was written",)
    # Whoever computes the hash anew breaks the next one, or is found by a head that was seen.
    head = head_of(entries)
    victim["hash"] = entry_hash(victim)
    assert verify(entries, [head]).problems != ()


@given(ACTS, st.data())
def test_one_that_is_gone_is_found(acts, data) -> None:
    entries = chain(acts)
    head = head_of(entries)
    entries.pop(data.draw(st.integers(0, len(entries) - 1)))
    assert verify(entries, [head]).problems != ()


@given(ACTS, st.data())
def test_another_order_is_found(acts, data) -> None:
    entries = chain(acts)
    order = data.draw(st.permutations(range(len(entries))))
    assume(order != list(range(len(entries))))
    assert verify([entries[n] for n in order], [head_of(entries)]).problems != ()


def test_a_cut_end_is_found_by_a_head_alone() -> None:
    entries = chain([(float(n), "mei", f"rec-{n}", {}) for n in range(4)])
    assert verify(entries[:3]).problems == ()
    assert verify(entries[:3], [head_of(entries)]).problems == (
        "entry 4 was seen before and is not here: the end was cut off at 3",
    )


def test_a_chain_written_anew_is_found_by_a_head_alone() -> None:
    honest = chain([(1.0, "mei", "rec-1", {}), (2.0, "mei", "rec-2", {})])
    forged = chain([(1.0, "mei", "rec-1", {}), (2.0, "bo", "rec-2", {})])
    assert verify(forged).problems == ()
    assert verify(forged, [head_of(honest)]).problems == (
        "entry 2: not the one that was seen before under this number",
    )


def test_an_empty_audit_is_whole() -> None:
    assert verify([]).problems == ()


def test_a_head_can_be_written_and_read() -> None:
    head = head_of(chain([(1.0, "mei", "rec-1", {})]))
    assert Head.parse(f" {head}\n") == head
    assert head.number == int(float(head.number))


@pytest.mark.parametrize("text", ["", "17", "17:", "x:" + "0" * 64, "-1:" + "0" * 64, "1:zz"])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        Head.parse(text)
