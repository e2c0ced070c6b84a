"""The text for Prometheus, read back by Prometheus's own parser."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from chipmedic_agent.exposition import Family, label_text, written

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e")
)
LABELS = st.dictionaries(st.sampled_from(["chip", "node", "why"]), TEXTS)
"""Prometheus itself ends a line at a newline alone; its Python parser at more."""


@given(st.lists(st.tuples(LABELS, st.floats(allow_nan=False)), max_size=4), TEXTS)
def test_labels_and_values_come_back(
    samples: list[tuple[dict[str, str], float]], words: str
) -> None:
    family = Family("chipmedic_x_bytes", words)
    for labels, value in samples:
        family.add(value, label_text(labels))
    (read,) = text_string_to_metric_families(written([family]).decode())
    assert read.type == "gauge"
    assert [(s.labels, s.value) for s in read.samples] == samples


def test_a_total_is_a_counter() -> None:
    text = written([Family("a_total", "What.", 3), Family("b_seconds", "What.", math.inf)]).decode()
    first, second = text_string_to_metric_families(text)
    assert (first.type, first.samples[0].name, first.samples[0].value) == ("counter", "a_total", 3)
    assert second.samples[0].value == math.inf
