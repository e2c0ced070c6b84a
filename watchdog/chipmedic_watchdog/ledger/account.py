"""Where the time of one job went: its history cut into intervals that leave no hole. Pure.

Between two rows of progress of the same start the job stepped, less the pauses that it named; up
to the highest step of earlier starts that was computed again. Between the last row of one start and
the first step of the next, and where the next step came far too late, it stood still: `explain`
says why. What follows the last row is the present; it is judged with care, for the next report may
be under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from chipmedic.model import Severity
from chipmedic_watchdog.intake.progress import DONE, Mark, Pause, Progress, pause_of
from chipmedic_watchdog.ledger.explain import blame, explain
from chipmedic_watchdog.ledger.history import History, by_time, tick
from chipmedic_watchdog.ledger.phases import LOST, Interval, Phase

QUIET_SECONDS = 15.0
"""A report can be this late without anything being wrong: heartbeats, thinning, a slow commit."""
QUIET_STEPS = 3.0
"""A step can take this many times its usual time."""
UNKNOWN_PACE_SECONDS = 600.0
"""How long a job may be silent of which nobody knows how long its steps take."""
ALARMED_SECONDS = 3.0
"""With an incident open a job stands still as soon as it has been silent for this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The whole life of one job up to now."""

    job: str
    began_at: float
    end_at: float
    is_over: bool
    intervals: tuple[Interval, ...]
    """By time; each begins where the one before ends."""
    highest_step: int | None
    """None: it has told no step, so nobody can say what was productive."""
    starts: int

    @property
    def wall_seconds(self) -> float:
        """From the first sight to the end, or to now."""
        return self.end_at - self.began_at

    def seconds(self) -> dict[Phase, float]:
        """Return what each phase took; they sum up to the wall time exactly."""
        spent = dict.fromkeys(Phase, 0.0)
        for interval in self.intervals:
            spent[interval.phase] += (
                interval.seconds - interval.checkpoint_seconds - interval.other_seconds
            )
            spent[Phase.CHECKPOINT] += interval.checkpoint_seconds
            spent[Phase.OTHER] += interval.other_seconds
        return spent

    @property
    def effective_ratio(self) -> float | None:
        """Return the share of the time that made new steps; None where that is not known."""
        if self.highest_step is None or self.wall_seconds <= 0:
            return None
        return self.seconds()[Phase.PRODUCTIVE] / self.wall_seconds

    @property
    def lost(self) -> tuple[Interval, ...]:
        """The intervals that were lost to something."""
        return tuple(i for i in self.intervals if i.phase in LOST)


def account(history: History) -> Account | None:
    """Return where the time of a job went; None where it was never seen."""
    rows = [_ticked(row) for row in by_time(history.rows) if row.at <= history.now]
    if not rows:
        return None
    book = _Book(history, rows)
    book.fill()
    steps = [row.step for row in rows if row.step is not None]
    return Account(
        job=history.job,
        began_at=rows[0].at,
        end_at=book.end,
        is_over=book.is_over,
        intervals=tuple(book.intervals),
        highest_step=max(steps, default=None),
        starts=max(1, sum(row.mark is Mark.START for row in rows)),
    )


def _ticked(row: Progress) -> Progress:
    return replace(
        row,
        at=tick(row.at),
        checkpoint_seconds=tick(row.checkpoint_seconds),
        other_seconds=tick(row.other_seconds),
    )


@dataclass(slots=True)
class _Book:
    """An account while it is written, row by row."""

    history: History
    rows: Sequence[Progress]
    intervals: list[Interval] = field(default_factory=list)
    highest: int = -1
    """The highest step of earlier starts."""
    reached: int = -1
    """The highest step so far."""
    incident: str | None = None
    """Of the last wait: what it is due to that steps are made again."""
    pace_seconds: float | None = None

    @property
    def is_over(self) -> bool:
        return self.history.is_over or self.rows[-1].phase in DONE

    @property
    def end(self) -> float:
        last = self.rows[-1].at
        return last if self.is_over else max(last, tick(self.history.now))

    def fill(self) -> None:
        """Go through the rows."""
        here = self._first_step()
        while here is not None and here + 1 < len(self.rows):
            self._see(self.rows[here])
            if self.rows[here + 1].mark is Mark.START:
                here = self._wait_for_start(here)
            else:
                self._go_on(self.rows[here], self.rows[here + 1])
                here += 1
        if here is not None:
            self._see(self.rows[here])
            self._present(self.rows[here])

    def _see(self, row: Progress) -> None:
        self.reached = max(self.reached, -1 if row.step is None else row.step)

    def _first_step(self) -> int | None:
        """Account for what is before the first step; return the row that tells it."""
        here = next((n for n, row in enumerate(self.rows) if row.step is not None), None)
        start = self.rows[0].at
        end = self.end if here is None else self.rows[here].at
        restarts = self.history.restarts(start, end)
        failed = end
        if restarts:
            named = {act.incident for act in restarts}
            alarms = [i.alarm(start) for i in self.history.incidents if i.id in named]
            failed = min(max(tick(min([*alarms, restarts[0].started_at])), start), end)
        is_open = here is None and not self.is_over
        self._put(
            Interval(
                phase=Phase.START, start_at=start, end_at=failed,
                is_open=is_open and failed == end,
            )
        )  # fmt: skip
        if failed < end:
            self._wait(failed, end, is_open=is_open)
        return here

    def _wait_for_start(self, last: int) -> int | None:
        """Account for the wait between two starts; return the row of the first step, if any."""
        here = last + 1
        while here < len(self.rows) and self.rows[here].step is None:
            here += 1
        sights = [row.at for row in self.rows[last + 1 : here]]
        is_open = here == len(self.rows)
        end = self.end if is_open else self.rows[here].at
        self._wait(self.rows[last].at, end, is_open=is_open and not self.is_over, sights=sights)
        self.highest = self.reached
        self.pace_seconds = None
        return None if is_open else here

    def _go_on(self, before: Progress, after: Progress) -> None:
        """Account for the time between two rows of one start."""
        if after.mark is Mark.STALL:
            steps = max(0, (after.step or 0) - (before.step or 0))
            stepping = tick((self.pace_seconds or 0.0) * steps)
            resumed = max(before.at, after.at - stepping)
            self._wait(before.at, resumed, is_open=False)
            before = replace(
                before, at=resumed, checkpoint_seconds=after.checkpoint_seconds,
                other_seconds=after.other_seconds,
            )  # fmt: skip
        elif before.step is not None and after.step is not None and after.step > before.step:
            net = after.at - before.at - sum(_pauses(before, after))
            self.pace_seconds = net / (after.step - before.step)
        self._step(before, after)

    def _step(self, before: Progress, after: Progress) -> None:
        """Account for steps, and for the pauses among them."""
        first, last = before.step or 0, after.step or 0
        checkpoint_seconds, other_seconds = _pauses(before, after)
        start, end = before.at, after.at
        if first < self.highest:
            overtaken = end
            if last > self.highest:
                share = (self.highest - first) / (last - first)
                overtaken = min(end, start + tick((end - start) * share))
            detail = f"steps {first} to {min(last, self.highest)}"
            self._put_again(start, overtaken, detail)
            start = overtaken
            checkpoint_seconds = min(checkpoint_seconds, end - start)
            other_seconds = min(other_seconds, end - start - checkpoint_seconds)
        self._put_steps(start, end, checkpoint_seconds, other_seconds)

    def _put_again(self, start: float, end: float, detail: str, *, is_open: bool = False) -> None:
        """Write steps that are made again; neighbours become one."""
        last = self.intervals[-1] if self.intervals else None
        if last is not None and last.phase is Phase.RECOMPUTE and last.end_at == start:
            begin = last.detail.partition(" to ")[0]
            self.intervals[-1] = replace(
                last, end_at=end, is_open=is_open, detail=f"{begin} to {detail.rpartition(' ')[2]}"
            )
            return
        self._put(
            Interval(
                phase=Phase.RECOMPUTE, start_at=start, end_at=end, is_open=is_open,
                incident=self.incident, detail=detail,
            )
        )  # fmt: skip

    def _put_steps(
        self, start: float, end: float, checkpoint_seconds: float, other_seconds: float
    ) -> None:
        seconds = end - start
        for phase, paused in (
            (Phase.CHECKPOINT, checkpoint_seconds),
            (Phase.OTHER, other_seconds),
        ):
            if paused == seconds:
                self._put(Interval(phase=phase, start_at=start, end_at=end))
                return
        self._put(
            Interval(
                phase=Phase.PRODUCTIVE, start_at=start, end_at=end,
                checkpoint_seconds=checkpoint_seconds, other_seconds=other_seconds,
            )
        )  # fmt: skip

    def _present(self, last: Progress) -> None:
        """Account for the time since the last row."""
        end = self.end
        if end <= last.at:
            return
        if self._stands_still(last, end):
            self._wait(last.at, end, is_open=True)
            return
        pause = pause_of(last.phase)
        if (last.step or 0) < self.highest:
            self._put_again(last.at, end, f"steps {last.step} to {last.step}", is_open=True)
            return
        phase = {
            None: Phase.PRODUCTIVE,
            Pause.CHECKPOINT: Phase.CHECKPOINT,
            Pause.OTHER: Phase.OTHER,
        }
        self._put(Interval(phase=phase[pause], start_at=last.at, end_at=end, is_open=True))

    def _stands_still(self, last: Progress, now: float) -> bool:
        """Say whether the job does nothing, rather than that its next report is under way."""
        if any(act.started_at > last.at for act in self.history.restarts(last.at, now)):
            return True
        quiet_seconds = now - last.at
        pace_seconds = self.pace_seconds or 0.0
        if quiet_seconds > ALARMED_SECONDS + QUIET_STEPS * pace_seconds and any(
            incident.severity >= Severity.CRITICAL for incident in blame(self.history, last.at, now)
        ):
            return True
        if pause_of(last.phase) is not None:
            return False
        if self.pace_seconds is None:
            return quiet_seconds > UNKNOWN_PACE_SECONDS
        return quiet_seconds > QUIET_SECONDS + QUIET_STEPS * pace_seconds

    def _wait(
        self, start: float, end: float, *, is_open: bool, sights: Sequence[float] = ()
    ) -> None:
        stages = explain(self.history, start, end, is_open=is_open, sights=sights)
        self.incident = stages[-1].incident if stages else None
        for stage in stages:
            self._put(stage)

    def _put(self, interval: Interval) -> None:
        """Write an interval; one without time is worth a line only where an incident explains."""
        if interval.seconds > 0 or (interval.incident and interval.phase is not Phase.RECOMPUTE):
            self.intervals.append(interval)


def _pauses(before: Progress, after: Progress) -> Iterator[float]:
    """Return the seconds of checkpoints and of other pauses between two rows, within their time."""
    room = after.at - before.at
    checkpoint_seconds = min(max(0.0, after.checkpoint_seconds - before.checkpoint_seconds), room)
    yield checkpoint_seconds
    other_seconds = after.other_seconds - before.other_seconds
    yield min(max(0.0, other_seconds), room - checkpoint_seconds)
