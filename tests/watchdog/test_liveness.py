"""Silence, judged with a clock that the test moves, over the real committer and store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import IncidentSettings, LivenessSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.intake.arrival import Arrival, Greeting
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.heard import Unheard
from chipmedic_watchdog.intake.peers import Address, address_of
from chipmedic_watchdog.intake.sessions import Session, Sessions
from chipmedic_watchdog.liveness import QUIET, Liveness
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from intake_rig import all_written, rows

SETTINGS = LivenessSettings(silence_seconds=2.0, startup_grace_seconds=30.0, stall_seconds=5.0)


@dataclass
class Watch:
    database: Database
    at: float = 10_000.0
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    clock: Clock = field(init=False)
    sessions: Sessions = field(init=False)
    committer: Committer = field(init=False)
    liveness: Liveness = field(init=False)
    engine: IncidentEngine = field(init=False)
    closed: set[str] = field(default_factory=set)
    """Peers that ended their connection themselves."""
    quiet: dict[Address, Unheard] = field(default_factory=dict)
    """What the kernel says of connections that bring nothing."""

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: self.at, lambda: self.at)
        self.sessions = Sessions(self.clock, SETTINGS.silence_seconds)
        self.committer = Committer(self.database, self.metrics, self.health)
        self.liveness = Liveness(
            self.database, self.committer, self.sessions, self.metrics, SETTINGS, self.clock,
            lambda peers, _: set(peers) - self.closed, unheard=lambda *_: self.quiet,
        )  # fmt: skip
        self.engine = IncidentEngine(
            self.database, self.sessions, self.metrics, self.health, IncidentSettings(), self.clock
        )

    async def connect(
        self, node: str, boot_id: str = "b", peer: str = "", **labels: str
    ) -> Session:
        session = Session(
            node=node, machine_id=node, epoch="e", peer=peer or f"peer of {node}",
            opened_at=self.at,
        )  # fmt: skip
        self.sessions.open(session)
        greeting = Greeting(
            machine_id=node, boot_id=boot_id, boot_time=1.0, agent_version="1", labels=labels,
            inventory=(), first_seq=1, next_seq=1,
        )  # fmt: skip
        arrival = Arrival(
            node=node, epoch="e", stream=session.stream, received_at=self.at, body=greeting
        )
        arrival.done = asyncio.get_running_loop().create_future()
        self.committer.put_now(arrival)
        session.is_told = True
        await arrival.done
        return session

    async def pass_(self, seconds: float, *, is_stalled: bool = False) -> None:
        """Let time pass with the loop running, or without."""
        end = self.at + seconds
        while self.at < end:
            self.at = end if is_stalled else min(end, self.at + 0.25)
            self.liveness.tick()
        await self.settle()

    def hear_nothing(self, *nodes: int, seconds: float, sent: float = 100.0) -> None:
        """Let the kernel have heard nothing from these ports for a time."""
        for number in nodes:
            address = address_of(f"ipv4:10.0.0.1:{number}")
            assert address is not None
            self.quiet[address] = Unheard(seconds, sent)

    async def stay_quiet(self, *nodes: int, seconds: float) -> None:
        """Let the kernel have heard nothing from these ports for so long when it is asked next."""
        self.hear_nothing(*nodes, seconds=seconds)
        await self.pass_(0.25)

    async def settle(self) -> None:
        await self.liveness._expire()
        await all_written(self.committer, self.at)
        await self.engine.look()

    def unreachable(self) -> set[str]:
        faults = rows(self.database, schema.faults)
        return {
            f["node"] for f in faults if f["kind"] == "node.unreachable" and f["state"] != "cleared"
        }


@pytest.fixture
async def watch(database: Database) -> AsyncIterator[Watch]:
    watch = Watch(database)
    committing = asyncio.create_task(watch.committer.run())
    yield watch
    committing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await committing


async def test_a_lost_stream_is_a_verdict_after_the_silence(watch: Watch) -> None:
    session = await watch.connect("n1")
    watch.sessions.close(session, "the connection was lost")
    await watch.pass_(1.5)
    assert watch.unreachable() == set()
    await watch.pass_(1.0)
    assert watch.unreachable() == {"n1"}
    await watch.connect("n1")
    assert watch.unreachable() == set()


def quarters(first: float, last: float) -> list[float]:
    """Return the quarters of a second from the first to the last time."""
    return [first + step / 4 for step in range(int((last - first) * 4) + 1)]


async def connect_ports(watch: Watch, count: int) -> None:
    for number in range(1, count + 1):
        await watch.connect(f"n{number}", peer=f"ipv4:10.0.0.1:{number}")


async def test_who_pings_no_more_is_a_verdict_while_its_connection_is_open(watch: Watch) -> None:
    await connect_ports(watch, 20)
    watch.hear_nothing(1, seconds=2.2)
    await watch.pass_(0.5)
    assert watch.unreachable() == set()
    watch.hear_nothing(1, seconds=2.3)
    await watch.pass_(0.5)
    assert watch.unreachable() == {"n1"}
    (fault,) = rows(watch.database, schema.faults)
    assert fault["summary"] == f"the node went silent: {QUIET}"
    assert fault["evidence"][0].startswith(f"{QUIET}; not heard since 1970-01-01 ")
    assert fault["node_since"] == pytest.approx(watch.at - 2.3, abs=0.6)
    assert set(watch.sessions.silent) == {"n1"}
    await watch.connect("n1", peer="ipv4:10.0.0.1:1")
    watch.quiet.clear()
    await watch.pass_(0.5)
    assert watch.unreachable() == set()


async def test_an_agent_that_reads_may_ping_later(watch: Watch) -> None:
    """What we send puts off its next ping, but not for ever."""
    await connect_ports(watch, 20)
    watch.hear_nothing(1, 2, 3, 4, seconds=2.5, sent=1.2)
    watch.hear_nothing(5, seconds=2.5, sent=1.3)
    await watch.pass_(0.5)
    assert watch.unreachable() == {"n5"}, "four that are not late are no pause of the network"
    watch.hear_nothing(1, seconds=5.0, sent=0.9)
    await watch.pass_(0.5)
    assert watch.unreachable() == {"n1", "n5"}


async def test_many_that_fall_quiet_together_are_waited_for(watch: Watch) -> None:
    await connect_ports(watch, 20)
    for seconds in quarters(1.4, 5.9):
        watch.hear_nothing(1, 2, seconds=seconds)
        await watch.stay_quiet(3, seconds=seconds - 0.2)
    assert watch.unreachable() == set()
    assert len(watch.sessions.live) == 20, "no stream was broken"
    watch.hear_nothing(1, 2, 3, seconds=6.0)
    await watch.stay_quiet(4, seconds=2.3)
    assert watch.unreachable() == {"n1", "n2", "n3", "n4"}, "the pause is no excuse for ever"


async def test_after_a_pause_not_all_are_heard_at_once(watch: Watch) -> None:
    await connect_ports(watch, 20)
    await watch.stay_quiet(1, 2, 3, seconds=2.4)
    watch.quiet.clear()
    for seconds in quarters(2.65, 4.2):
        await watch.stay_quiet(2, seconds=seconds)
    assert watch.unreachable() == set()
    for seconds in quarters(4.4, 4.9):
        await watch.stay_quiet(2, seconds=seconds)
    assert watch.unreachable() == {"n2"}


async def test_who_falls_quiet_before_the_others_is_not_one_of_them(watch: Watch) -> None:
    await connect_ports(watch, 20)
    watch.hear_nothing(*range(2, 20), seconds=1.5)
    await watch.stay_quiet(1, seconds=2.3)
    assert watch.unreachable() == {"n1"}
    await watch.stay_quiet(*range(2, 20), seconds=2.5)
    assert watch.unreachable() == {"n1"}


async def test_after_a_pause_of_its_own_the_watchdog_listens_first(watch: Watch) -> None:
    await connect_ports(watch, 20)
    watch.hear_nothing(1, seconds=3.0)
    await watch.pass_(2.0, is_stalled=True)
    await watch.pass_(1.0)
    assert watch.unreachable() == set()
    await watch.pass_(1.0)
    assert watch.unreachable() == {"n1"}


async def test_a_kernel_that_stops_telling_is_told_once_and_judges_nobody(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    await connect_ports(watch, 20)

    def refuse(*_: object) -> dict[Address, Unheard]:
        raise OSError("not allowed")

    watch.liveness._unheard = refuse
    await watch.pass_(2.0)
    assert caplog.text.count("the kernel lists no sockets") == 1
    assert watch.unreachable() == set()


async def test_a_connection_of_nobody_is_nobodys_silence(watch: Watch) -> None:
    await connect_ports(watch, 2)
    watch.hear_nothing(7, seconds=100.0)
    await watch.pass_(1.0)
    assert rows(watch.database, schema.faults) == []


async def test_a_node_of_whose_return_the_store_never_heard_is_still_missed(watch: Watch) -> None:
    """While the store refuses and its queue is full, a hello waits outside of it."""
    first = await watch.connect("n1")
    for number in range(3):
        again = Session(
            node="n1", machine_id="n1", epoch="e", peer=f"p{number}", opened_at=watch.at
        )
        watch.sessions.open(again)
        assert watch.sessions.close(first, "replaced") is None
        watch.sessions.close(again, "lost")
    await watch.pass_(3)
    assert watch.unreachable() == {"n1"}
    await watch.connect("n1")
    assert watch.unreachable() == set()


async def test_a_large_fleet_may_take_longer_to_come_back_to_a_new_watchdog(watch: Watch) -> None:
    """The first two of each second come back; the grace time of 30 s is for the last one, too."""
    nodes = [f"n{number}" for number in range(90)]
    for node in (*nodes, "gone"):
        await watch.connect(node)
    watch.sessions.live.clear()
    await watch.liveness.expect_known()
    for number in range(0, 90, 2):
        await watch.connect(nodes[number])
        await watch.connect(nodes[number + 1])
        await watch.pass_(1)
    assert watch.unreachable() == set()
    await watch.pass_(5)
    assert watch.unreachable() == {"gone"}


async def test_time_in_which_the_watchdog_was_busy_is_no_silence(watch: Watch) -> None:
    """Who came back meanwhile is heard only when the loop moves again."""
    watch.sessions.close(await watch.connect("n1"), "the connection was lost")
    for _ in range(4):
        await watch.pass_(0.9, is_stalled=True)
    assert watch.unreachable() == set(), "of 3.6 s it has listened for 0.4 s"
    await watch.pass_(2.0)
    assert watch.unreachable() == {"n1"}


async def test_one_that_returns_in_time_is_not(watch: Watch) -> None:
    watch.sessions.close(await watch.connect("n1"), "lost")
    await watch.pass_(1.5)
    await watch.connect("n1")
    await watch.pass_(10)
    assert rows(watch.database, schema.faults) == []


async def test_an_agent_that_ended_has_the_time_to_start_again(watch: Watch) -> None:
    """Its kernel has closed the connection: the host lives."""
    watch.closed = {"peer of n1"}
    for node in ("n1", "n2"):
        watch.sessions.close(await watch.connect(node), "lost")
    await watch.pass_(3)
    assert watch.unreachable() == {"n2"}
    await watch.pass_(2)
    assert watch.unreachable() == {"n2"}
    await watch.pass_(2)
    assert watch.unreachable() == {"n1", "n2"}


async def test_a_pause_of_the_whole_fleet_condemns_nobody(watch: Watch) -> None:
    sessions = [await watch.connect(f"n{n}") for n in range(20)]
    for session in sessions:
        watch.sessions.close(session, "lost")
        await watch.pass_(0.05)
    await watch.pass_(3.5)
    assert watch.unreachable() == set()
    for session in sessions[:18]:
        await watch.connect(session.node)
    await watch.pass_(4)
    assert watch.unreachable() == {"n18", "n19"}


async def test_a_fleet_that_comes_back_slowly_is_waited_for(watch: Watch) -> None:
    """A watchdog lets thousands in one after the other; who never comes is judged at the end."""
    sessions = [await watch.connect(f"n{n}") for n in range(40)]
    for session in sessions:
        watch.sessions.close(session, "lost")
    await watch.pass_(3.0)
    for session in sessions[:36]:
        await watch.connect(session.node)
        await watch.pass_(0.25)
    assert watch.unreachable() == set(), "12 s after the loss"
    await watch.pass_(6.0)
    assert watch.unreachable() == {"n36", "n37", "n38", "n39"}


async def test_a_fleet_whose_loss_is_noticed_slowly_is_waited_for(watch: Watch) -> None:
    """A busy watchdog notices thousands of ended streams one after the other."""
    sessions = [await watch.connect(f"n{n}") for n in range(12)]
    for session in sessions:
        watch.sessions.close(session, "lost")
        await watch.pass_(0.75)
    assert watch.unreachable() == set(), "9 s after the first loss, while they go on"
    await watch.pass_(7.0)
    assert watch.unreachable() == {session.node for session in sessions}


async def test_losses_that_do_not_end_hold_no_verdict_up_for_ever(watch: Watch) -> None:
    sessions = [await watch.connect(f"n{n}") for n in range(27)]
    for session in sessions:
        watch.sessions.close(session, "lost")
        await watch.pass_(2.0)
    assert "n0" in watch.unreachable(), "53 s after it was lost: the grace time is over"


async def test_one_node_that_comes_and_goes_holds_no_verdict_up(watch: Watch) -> None:
    sessions = [await watch.connect(f"n{n}") for n in range(20)]
    for session in sessions:
        watch.sessions.close(session, "lost")
    for _ in range(7):
        again = await watch.connect("n0")
        await watch.pass_(0.5)
        watch.sessions.close(again, "lost")
        await watch.pass_(0.5)
    assert len(watch.unreachable()) == 19


async def test_a_few_of_a_large_fleet_are_no_pause(watch: Watch) -> None:
    sessions = [await watch.connect(f"n{n}") for n in range(60)]
    for session in sessions[:5]:
        watch.sessions.close(session, "lost")
    await watch.pass_(2.25)
    assert len(watch.unreachable()) == 5


async def test_a_stall_gives_everybody_the_grace_time(watch: Watch) -> None:
    before, after, later = [await watch.connect(f"n{n}") for n in (1, 2, 3)]
    watch.sessions.close(before, "lost")
    await watch.pass_(10, is_stalled=True)
    watch.sessions.close(after, "lost")  # found out only now, and lost by the stall
    await watch.pass_(25)
    assert watch.unreachable() == set()
    watch.sessions.close(later, "lost")  # the clock is trusted again for what happens now
    await watch.pass_(3)
    assert watch.unreachable() == {"n3"}
    await watch.pass_(4)
    assert watch.unreachable() == {"n1", "n2", "n3"}
    assert watch.metrics.registry.get_sample_value("chipmedic_watchdog_stalls_total") == 1


async def test_no_verdict_while_nothing_can_be_written(watch: Watch) -> None:
    watch.sessions.close(await watch.connect("n1"), "lost")
    watch.health.begin("store", "disk full")
    await watch.pass_(60)
    assert watch.unreachable() == set()
    watch.health.end("store")
    watch.liveness.forgive()
    await watch.pass_(29)
    assert watch.unreachable() == set()
    await watch.pass_(2)
    assert watch.unreachable() == {"n1"}


async def test_after_a_restart_known_nodes_are_expected(watch: Watch, database: Database) -> None:
    for node in ("gone_before", "back", "gone"):
        watch.sessions.close(await watch.connect(node), "lost")
        if node == "gone_before":
            await watch.pass_(3)
    again = Watch(database, at=watch.at + 100)
    again.committer = watch.committer
    again.liveness._committer = watch.committer
    await again.liveness.expect_known()
    await again.connect("back")
    await again.pass_(29)
    assert again.unreachable() == {"gone_before"}
    await again.pass_(2)
    assert again.unreachable() == {"gone", "gone_before"}
    faults = rows(database, schema.faults)
    assert [f["count"] for f in faults if f["node"] == "gone_before"] == [1], "not told again"


async def test_a_reboot_is_forgotten_after_its_time(watch: Watch) -> None:
    await watch.connect("n1")
    await watch.connect("n1", boot_id="another")
    (fault,) = rows(watch.database, schema.faults)
    assert (fault["kind"], fault["state"]) == ("node.rebooted", "open")
    watch.at += 700
    await watch.settle()
    (fault,) = rows(watch.database, schema.faults)
    assert (fault["state"], fault["clear_reason"]) == ("cleared", "expired")


async def test_a_lost_rack_is_one_incident_that_ends_by_itself(watch: Watch) -> None:
    sessions = [await watch.connect(f"r{n % 2}n{n}", rack=f"r{n % 2}") for n in range(24)]
    for session in sessions[::2]:
        watch.sessions.close(session, "lost")
        await watch.pass_(0.25)
    await watch.pass_(8)
    (incident,) = rows(watch.database, schema.incidents)
    assert incident["cause"] == "silence.group/1"
    assert incident["title"] == "12 nodes of rack r0 went silent"
    assert len(incident["nodes"]) == 12
    for session in sessions[::2]:
        await watch.connect(session.node, rack="r0")
    await watch.settle()
    (incident,) = rows(watch.database, schema.incidents)
    assert incident["state"] == "resolved"
