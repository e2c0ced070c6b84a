"""Histories of one job, written as short as they can be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chipmedic.model import JobStatus, Severity
from chipmedic_watchdog.intake.progress import Mark, Progress, Rows, Sighting, Track, advance
from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.history import Act, History, IncidentFact

JOB = "slurm:77"


def row(at: float, step: int | None, attempt: int = 0, **more: object) -> Progress:
    facts = {"checkpoint_step": None, "phase": "train", **more}
    return Progress(at=at, step=step, attempt=attempt, **facts)  # type: ignore[arg-type]


def again(at: float, step: int | None, attempt: int) -> Progress:
    """The first row of a later start."""
    return row(at, step, attempt, mark=Mark.START)


def incident(id_: str, *alarms: float, severity: int = 3, resolved_at: float | None = None):
    return IncidentFact(id=id_, severity=Severity(severity), alarms=alarms, resolved_at=resolved_at)


def isolate(id_: str, node: str, started_at: float, ended_at: float | None) -> Act:
    return Act(incident=id_, kind="isolate", target=node, started_at=started_at, ended_at=ended_at)


def restart(id_: str, started_at: float, ended_at: float | None, job: str = JOB) -> Act:
    return Act(incident=id_, kind="restart", target=job, started_at=started_at, ended_at=ended_at)


def history(
    *rows: Progress,
    now: float,
    incidents: Iterable[IncidentFact] = (),
    acts: Iterable[Act] = (),
    is_over: bool = False,
) -> History:
    return History(
        job=JOB,
        rows=rows,
        incidents=tuple(incidents),
        acts=tuple(acts),
        now=now,
        is_over=is_over,
    )


def told(made: Account | None) -> str:
    """Tell an account: `productive@0-100 detect@100-101(a) ...`; `+` is what goes on."""
    assert made is not None
    return " ".join(_words(made))


def _words(made: Account) -> Iterator[str]:
    for one in made.intervals:
        tied = "" if one.incident is None else f"({one.incident})"
        yield f"{one.phase}@{one.start_at:g}-{one.end_at:g}{'+' if one.is_open else ''}{tied}"


class Listener:
    """Takes in what nodes say of a job and keeps the rows, as the store does."""

    def __init__(self) -> None:
        self.track: Track | None = None
        self.rows: dict[float, Progress] = {}
        self.writes = 0

    def hear(
        self,
        at: float,
        step: int | None,
        *,
        phase: str | None = "train",
        node: str = "n1",
        attempt: int = 0,
        moved_at: float | None = None,
        checkpoint: int | None = None,
        skew_seconds: float = 0.0,
    ) -> Rows | None:
        step_at = at if moved_at is None else moved_at
        status = JobStatus(
            job=JOB,
            at=at + skew_seconds,
            step=step,
            step_at=None if step is None else step_at + skew_seconds,
            phase=phase,
            attempt=attempt,
            checkpoint_step=checkpoint,
        )
        seen = Sighting(node=node, status=status, heard_at=at, skew_seconds=skew_seconds)
        news = advance(self.track, seen)
        if news is None:
            return None
        self.track, rows = news
        for gone in rows.removed:
            del self.rows[gone]
        for kept in rows.written:
            self.rows[kept.at] = kept
            self.writes += 1
        return rows

    def history(self, now: float, **facts: object) -> History:
        return history(*self.rows.values(), now=now, **facts)  # type: ignore[arg-type]
