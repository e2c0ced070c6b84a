"""Both daemons in network namespaces: a cable that is pulled, one way only, a new address.

What a proxy cannot do: packets vanish, and neither side is told. A node that is away is judged
silent once, that ends by itself when it is back, and what happened meanwhile arrives once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chipmedic_watchdog.store import schema
from network_rig import Net, Site, assert_each_once, laid, running_site
from waiting import until

pytestmark = pytest.mark.system


@pytest.fixture
def net() -> Iterator[Net]:
    with laid(Net()) as made:
        yield made


@pytest.fixture
def site(net: Net, tmp_path: Path) -> Iterator[Site]:
    with running_site(net, tmp_path) as made:
        yield made


def test_a_cable_that_is_pulled(site: Site) -> None:
    """First of a node that is well: its silence is an incident, and that ends by itself."""
    site.net.pull()
    until(site.is_silent, "the node is not missed", explain=site.explain)
    site.net.plug()
    until(site.is_whole, "the node does not come back", explain=site.explain)
    [silence] = site.faults("node.unreachable")

    def states() -> list[str]:
        return [row.state for row in site.rows(schema.incidents) if row.id == silence.incident]

    until(lambda: states() == ["resolved"], "its incident does not end", explain=site.explain)
    cut_off(site, Net.pull, Net.plug)
    assert_each_once(site)


def test_a_way_that_is_open_in_one_direction_and_an_address_that_changes(site: Site) -> None:
    cut_off(site, Net.lose_answers, Net.answer_again)
    cut_off(site, Net.lose_words, Net.speak_again)
    judged = len(site.faults("node.unreachable"))
    site.break_chips(2)
    site.net.move()
    site.break_chips(2)
    until(site.is_whole, "the node does not come back", explain=site.explain)
    assert len(site.faults("node.unreachable")) <= judged + 1
    assert_each_once(site)


def cut_off(site: Site, cut: Callable[[Net], None], mend: Callable[[Net], None]) -> None:
    """Cut the node off while its chips fail; it is missed once, and then it is back."""
    judged = len(site.faults("node.unreachable"))
    site.break_chips(2)
    cut(site.net)
    site.break_chips(2)
    until(site.is_silent, "the node is not missed", explain=site.explain)
    site.break_chips(2)
    mend(site.net)
    until(site.is_whole, "the node does not come back", explain=site.explain)
    assert len(site.faults("node.unreachable")) == judged + 1
