"""Snapshots and heartbeats: what an agent says of its state, over a real channel and store."""

from __future__ import annotations

import pytest

from chipmedic.model import Coverage, JobStatus, Verdict
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.store import schema
from fake_agent import FakeAgent, a_coverage, a_fault, a_snapshot, event

CLEARED = pb.TRANSITION_CLEARED


class TestSnapshots:
    async def settle(self, agent: FakeAgent, seq: int) -> None:
        """Send one more event and wait for it: what came before it is in, too."""
        await agent.events(event(seq, a_fault("host", "host.hung_task", source="kernel_log")))
        await agent.acked(seq)

    def states(self, intake) -> dict[str, tuple[str, str]]:
        return {
            f["component"]: (f["state"], f["clear_reason"])
            for f in intake.rows(schema.faults)
            if f["component"] != "host"
        }

    @pytest.mark.parametrize(
        ("verdict", "state"),
        [
            (Verdict.OK, ("cleared", "snapshot")),
            (Verdict.FAULT, ("cleared", "snapshot")),
            (Verdict.UNKNOWN, ("unknown", "")),
            (None, ("unknown", "")),
        ],
    )
    async def test_what_is_absent_ends_only_where_somebody_looked(
        self, intake, verdict, state
    ) -> None:
        coverage = [] if verdict is None else [a_coverage("nvidia", verdict)]
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(1, a_fault()))
            await agent.send(snapshot=a_snapshot([], 2, coverage))
            await self.settle(agent, 2)
        assert self.states(intake) == {"chip:GPU-a": state}

    async def test_an_unknown_one_is_open_again_when_seen(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(1, a_fault()))
            await agent.send(snapshot=a_snapshot([], 2))
            await agent.send(snapshot=a_snapshot([a_fault()], 2))
            await self.settle(agent, 2)
        assert self.states(intake) == {"chip:GPU-a": ("open", "")}

    async def test_what_only_the_snapshot_knows_is_opened(self, intake) -> None:
        async with FakeAgent(intake.address, epoch="new-spool") as agent:
            await agent.send(snapshot=a_snapshot([a_fault()], 1))
            await self.settle(agent, 1)
        assert self.states(intake) == {"chip:GPU-a": ("open", "")}

    async def test_it_waits_for_the_events_before_it(self, intake) -> None:
        async with FakeAgent(intake.address, next_seq=4) as agent:
            await agent.send(snapshot=a_snapshot([], 4, [a_coverage()]))
            await agent.events(event(1, a_fault()), event(2, a_fault("chip:GPU-b")))
            await agent.acked(2)
            assert self.states(intake) == {"chip:GPU-a": ("open", ""), "chip:GPU-b": ("open", "")}
            await agent.events(event(3, a_fault(), CLEARED))
            await agent.acked(3)
        assert self.states(intake) == {
            "chip:GPU-a": ("cleared", ""), "chip:GPU-b": ("cleared", "snapshot"),
        }  # fmt: skip

    async def test_it_does_not_undo_later_events(self, intake) -> None:
        """One batch holds events from before and after the snapshot that waits."""
        async with FakeAgent(intake.address, next_seq=2) as agent:
            await agent.send(snapshot=a_snapshot([a_fault()], 2, [a_coverage()]))
            await agent.events(
                event(1, a_fault()),
                event(2, a_fault(), CLEARED, detail="reset"),
                event(3, a_fault("chip:GPU-b")),
            )
            await agent.acked(3)
        assert self.states(intake) == {
            "chip:GPU-a": ("cleared", "reset"), "chip:GPU-b": ("open", ""),
        }  # fmt: skip

    async def test_a_damaged_one_ends_nothing(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await agent.events(event(1, a_fault()))
            snapshot = a_snapshot([a_fault("chip:GPU-b")], 2, [a_coverage()])
            snapshot.open[0].component = "wheel:front"
            await agent.send(snapshot=snapshot)
            await self.settle(agent, 2)
        assert self.states(intake) == {"chip:GPU-a": ("open", "")}

    async def test_it_says_nothing_of_the_watchdogs_own_faults(self, intake) -> None:
        async with FakeAgent(intake.address):
            pass
        async with FakeAgent(intake.address, boot_id="boot-2") as agent:
            await agent.send(snapshot=a_snapshot([], 1, [a_coverage("watchdog")]))
            await agent.events(event(1, a_fault()))
            await agent.acked(1)
        rebooted = next(f for f in intake.rows(schema.faults) if f["kind"] == "node.rebooted")
        assert rebooted["state"] == "open"


class TestHeartbeats:
    async def beat(self, agent: FakeAgent, seq: int, *jobs: JobStatus, at: float = 0.0) -> None:
        coverage = [codec.coverage_to_message(Coverage("nvidia", 5.0, Verdict.UNKNOWN, "stuck"))]
        messages = [codec.job_to_message(job) for job in jobs]
        await agent.send(
            heartbeat=pb.Heartbeat(at=at, coverage=coverage, jobs=messages, backlog_events=7)
        )
        await agent.events(event(seq, a_fault(count=seq)))
        await agent.acked(seq)

    async def test_proof_of_work_is_kept(self, intake) -> None:
        async with FakeAgent(intake.address) as agent:
            await self.beat(agent, 1)
        (coverage,) = intake.rows(schema.coverage)
        assert (coverage["verdict"], coverage["detail"]) == ("unknown", "stuck")
        (node,) = intake.rows(schema.nodes)
        assert node["backlog_events"] == 7
        assert node["skew_seconds"] < -1e9, "its clock stands at 0"

    async def test_progress_is_kept_when_it_is_news(self, intake) -> None:
        def job(step: int | None, phase: str = "train", attempt: int = 0) -> JobStatus:
            return JobStatus(job="slurm:7", at=1.0, chips=("GPU-a",), step=step, phase=phase,
                             attempt=attempt)  # fmt: skip

        async with FakeAgent(intake.address) as agent:
            story = (
                job(None),
                job(10),
                job(10, "checkpoint"),
                job(9, "checkpoint"),
                job(5, attempt=1),
            )
            for seq, status in enumerate(story, start=1):
                await self.beat(agent, seq, status)
            assert intake.rows(schema.job_nodes)[0]["is_present"]
            await self.beat(agent, 6)
        rows = [(r["step"], r["phase"], r["attempt"]) for r in intake.rows(schema.job_progress)]
        assert rows == [
            (None, "train", 0),  # the start is seen before its first step
            (10, "train", 0),
            (10, "checkpoint", 0),
            (5, "train", 1),
        ]
        assert not intake.rows(schema.job_nodes)[0]["is_present"]
