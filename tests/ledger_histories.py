"""Histories of jobs as hypothesis makes them up: every order of rows, incidents and acts."""

from __future__ import annotations

from hypothesis import strategies as st

from chipmedic.model import Severity
from chipmedic_watchdog.intake.progress import Mark, Progress
from chipmedic_watchdog.ledger.history import Act, History, IncidentFact
from ledger_story import JOB

MOMENTS = st.floats(0, 100_000, allow_nan=False).map(lambda at: at + 1_790_000_000.0)
ROWS = st.lists(
    st.builds(
        Progress,
        at=MOMENTS,
        step=st.none() | st.integers(0, 300),
        checkpoint_step=st.none(),
        attempt=st.integers(0, 3),
        phase=st.sampled_from([None, "train", "checkpoint", "evaluate", "init", "done"]),
        checkpoint_seconds=st.floats(0, 50_000),
        other_seconds=st.floats(0, 50_000),
        mark=st.sampled_from(Mark),
    ),
    max_size=12,
    unique_by=lambda made: made.at,
)
INCIDENTS = st.lists(
    st.builds(
        IncidentFact,
        id=st.sampled_from("abc"),
        severity=st.sampled_from(Severity),
        alarms=st.lists(MOMENTS, min_size=1, max_size=3).map(lambda found: tuple(sorted(found))),
        resolved_at=st.none() | MOMENTS,
    ),
    max_size=3,
    unique_by=lambda made: made.id,
)
ACTS_ = st.lists(
    st.builds(
        Act,
        incident=st.sampled_from("abcd"),
        kind=st.sampled_from(["isolate", "restart"]),
        target=st.sampled_from([JOB, "n1", "slurm:8"]),
        started_at=MOMENTS,
        ended_at=st.none() | MOMENTS,
    ),
    max_size=5,
)
HISTORIES = st.builds(
    History,
    job=st.just(JOB),
    rows=ROWS.map(tuple),
    incidents=INCIDENTS.map(tuple),
    acts=ACTS_.map(tuple),
    now=MOMENTS,
    is_over=st.booleans(),
)
