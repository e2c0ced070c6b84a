"""What the watchdog may ask of an agent, and whether it may still ask it."""

from __future__ import annotations

import math
import time

from chipmedic_agent.config import AgentSettings
from chipmedic_agent.gate import Gate
from chipmedic_agent.job_acts import JobActs, Outcome
from chipmedic_agent.journal import Journal
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.roster import Roster
from chipmedic_proto.v1 import chipmedic_pb2 as pb


class Orders:
    """Carries commands out; each is asked for by the leader among the watchdogs."""

    def __init__(
        self, roster: Roster, gate: Gate, acts: JobActs, pipeline: Pipeline, journal: Journal
    ) -> None:
        self._roster = roster
        self._gate = gate
        self._acts = acts
        self._pipeline = pipeline
        self._journal = journal

    def apply(self, settings: AgentSettings) -> None:
        """Take over what a reload has changed."""
        self._gate.settings = settings
        self._acts.settings = settings.jobs

    async def carry_out(self, command: pb.Command) -> Outcome:
        """Do what is asked for, unless it is too late or a later leader has spoken."""
        expires = command.expires_after_seconds
        if not math.isfinite(expires) or expires < 0:
            return Outcome(False, "expired")
        token = command.fencing_token
        if not self._take_token(token):
            return Outcome(False, f"fencing token {token} is older than one seen before")
        match command.WhichOneof("body"):
            case "collect_now":
                return await self._collect(command.collect_now)
            case "run_gate":
                return Outcome(*await self._gate.check(time.time()))
            case "job_act":
                return await self._acts.carry_out(command.job_act)
            case _:
                words = "unknown command: this agent is of another version"
                return Outcome(False, words, is_final=True)

    async def _collect(self, asked: pb.CollectNow) -> Outcome:
        try:
            words = await self._roster.scan_now(asked.checks)
        except KeyError as e:
            return Outcome(False, f"unknown check: {e.args[0]}", is_final=True)
        blind = [name for name, word in words.items() if word not in ("done", "not on this host")]
        return Outcome(not blind, ", ".join(f"{name}: {word}" for name, word in words.items()))

    def _take_token(self, token: int) -> bool:
        """Refuse what a deposed leader still sends."""
        if token < self._pipeline.fencing_token:
            return False
        if token > self._pipeline.fencing_token:
            self._pipeline.fencing_token = token
            self._journal.touch()
        return True
