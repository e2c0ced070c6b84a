"""An incident that grows: people hear of it again, not at each node that joins."""

from __future__ import annotations

from chipmedic_watchdog.store.database import Database
from watchdog.notify.test_flaps import Flapping


def nodes(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def test_an_incident_that_spreads_is_told_again_when_it_is_twice_as_large(
    database: Database,
) -> None:
    one = Flapping(database)
    one.set(nodes=nodes(20))
    one.wait(10)
    one.set(nodes=nodes(30))
    one.wait(100)
    assert one.told == ["opened"], "half as many more say nothing new"
    one.set(nodes=nodes(45))
    one.wait(20)
    assert one.told == ["opened", "updated"]
    one.set(nodes=nodes(200))
    one.wait(30)
    assert one.told == ["opened", "updated"], "it may still be spreading"
    one.wait(60)
    assert one.told == ["opened", "updated", "updated"]
    one.wait(600)
    assert len(one.told) == 3


def test_a_rack_that_falls_silent_within_a_second_is_one_page_and_its_size_a_minute_later(
    database: Database,
) -> None:
    one = Flapping(database)
    one.set(nodes=nodes(1))
    one.look()
    for count in (80, 500, 1000):
        one.set(nodes=nodes(count))
        one.look()
    assert one.told == ["opened"]
    one.wait(70)
    assert one.told == ["opened", "updated"]
