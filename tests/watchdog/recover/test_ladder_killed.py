"""Wherever the process dies while a recovery falls from rung to rung, each act is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chipmedic.recoverer import Rung
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from watchdog.recover.story import Killed, Ladder, World, put_fault, put_incident, put_nodes
from watchdog.recover.test_ladder import carry_out, plan, steps


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """One kind of store: the order of writes and calls is what is tested."""
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    put_nodes(database)
    put_incident(database)
    put_fault(database)
    yield database
    database.close()


class DyingDatabase(Database):
    """A store whose process dies at its nth write, before or after the commit."""

    def __init__(self, whole: Database, nth: int, *, is_committed: bool) -> None:
        super().__init__(whole.engine)
        self.left, self._is_committed = nth, is_committed

    def write_now(self, work: Callable[..., Any]) -> Any:
        self.left -= 1
        if self.left == 0 and not self._is_committed:
            raise Killed
        result = super().write_now(work)
        if self.left == 0:
            raise Killed
        return result


WRITES = 13
BROKEN = {Rung.SPARE: "the spare died", Rung.SHRINK: "no new step came"}


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("nth", range(1, WRITES + 2))
def test_killed_at_any_write_while_it_falls(
    database: Database, nth: int, *, is_committed: bool
) -> None:
    world, recovery = World(), plan(database)
    dying = DyingDatabase(database, nth, is_committed=is_committed)
    try:
        carry_out(dying, Ladder(world, broken=BROKEN), recovery)
    except Killed:
        assert carry_out(database, Ladder(world, broken=BROKEN), recovery)["state"] == "done"
    else:
        assert nth > WRITES, "every write must be a place to die"
    done = [act for act in world.acts if not act.startswith("fail")]
    assert done == ["isolate n1", "requeue slurm:7"]
    assert [state for _, state in steps(database)] == ["done", "given_up", "given_up", "done"]


CALLS = ("rungs", "plan", "do isolate", "confirm isolate", "do restart", "confirm restart")


@pytest.mark.parametrize("when", ["", " after"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_in_any_call_while_it_falls(
    database: Database, call: str, when: str, nth: int
) -> None:
    world, recovery, left = World(), plan(database), [nth]

    def die(at: str) -> None:
        left[0] -= at == call + when
        if left[0] == 0:
            left[0] = -1
            raise Killed(at)

    try:
        carry_out(database, Ladder(world, broken=BROKEN, dies=die), recovery)
    except Killed:
        assert carry_out(database, Ladder(world, broken=BROKEN), recovery)["state"] == "done"
    done = [act for act in world.acts if not act.startswith("fail")]
    assert done == ["isolate n1", "requeue slurm:7"]
