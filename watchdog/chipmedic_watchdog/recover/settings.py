"""Section `[recover]` of the watchdog's configuration.

```toml
[recover]
mode = "notify"                     # for all that no rule names

[[recover.rules]]                   # the first rule that matches the incident's kind decides
kinds = ["memory.*", "chip.*"]
mode = "act"

[recover.checkpoint]                # present: a job is asked to save before it is restarted

[recover.slurm]                     # present: the adapter is used; likewise [recover.kubernetes]

[recover.torchrun]

[recover.exec]
isolate = ["/usr/local/sbin/take-out", "{node}", "{reason}"]
restart = ["/usr/local/sbin/restart-job", "{job}"]
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from chipmedic.faults.kinds import KINDS
from chipmedic.recoverer import Rung
from chipmedic.section import Section, above_zero, at_least, at_most, checks, not_empty, one_of
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from chipmedic_watchdog.recover.setting_checks import placeholders


class Mode(StrEnum):
    """How far chipmedic goes by itself."""

    OBSERVE = "observe"
    """Record what would be done; people are not told of it."""
    NOTIFY = "notify"
    """Say in the notice what would be done."""
    PROPOSE = "propose"
    """Do it when a person approves."""
    ACT = "act"
    """Do it."""


class Scope(StrEnum):
    """What a budget is for one of."""

    FLEET = "fleet"
    """All nodes."""
    PARTITION = "partition"
    """The nodes with the same label `partition`; a node may have several, with commas between."""
    RACK = "rack"
    """The nodes with the same label `rack`."""
    JOB = "job"
    """The nodes that a job runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings(Section):
    """How many nodes of the fleet, or of one of its parts, may be out of service at once."""

    per: Scope
    names: tuple[str, ...] = ("*",)
    """Patterns over the names of the partitions, racks or jobs (`slurm:1234`) that it is for."""
    nodes: int | None = None
    percent: float | None = None
    """A share of the part's known nodes. Of the two bounds the smaller counts, never below one."""

    def _bound(self) -> Iterator[str]:
        if self.nodes is None and self.percent is None:
            yield "nodes, percent: at least one of them is needed"

    CHECKS = checks(
        _bound,
        above_zero("nodes", "percent"),
        at_most(100, "percent"),
        not_empty("names", "at least one pattern is needed"),
    )


def _match_something(section: Any) -> Iterator[str]:
    """Check that every pattern over kinds is one of a kind that there is."""
    for pattern in section.kinds:
        if not any(fnmatchcase(kind, pattern) for kind in KINDS):
            yield f"kinds: {pattern!r} matches no kind of fault (docs/faults.md)"


OF_KINDS = checks(not_empty("kinds", "at least one pattern is needed"), _match_something)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings(Section):
    """The mode for some kinds of incident."""

    kinds: tuple[str, ...]
    """Patterns over kinds: `memory.*`, `chip.lost`, `*`."""
    mode: Mode
    partitions: tuple[str, ...] = ()
    """Patterns over the label `partition` of the incident's nodes, all of which must have one that
    matches; empty: every node."""

    CHECKS = OF_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderSettings(Section):
    """One of `[[recover.ladders]]`: by which rungs the jobs of some incidents are restarted."""

    kinds: tuple[str, ...]
    """Patterns over the incident's kind, as in a rule; the first entry that fits decides."""
    rungs: tuple[Rung, ...]
    """In this order; what is not here is not done. The last is always `hold`."""
    severity: str = "info"
    """The least severity of the incident: `info`, `warning`, `critical`."""
    partitions: tuple[str, ...] = ()
    """As in a rule."""

    def _order(self) -> Iterator[str]:
        if list(self.rungs) != sorted(set(self.rungs), key=list(Rung).index):
            yield f"rungs: each once, and in the order {', '.join(Rung)}"

    CHECKS = checks(OF_KINDS, one_of("severity", ("info", "warning", "critical")), _order)


@dataclass(frozen=True, slots=True, kw_only=True)
class RungSettings(Section):
    """One of `[recover.rungs.NAME]`: how often a rung is taken for one job, and for how long."""

    attempts: int | None = None
    """Within `attempts_window_seconds`; unset: `maximum_restarts_per_job` alone bounds it."""
    cool_down_seconds: float = 0.0
    """Where it was taken so short a while ago it did not help: the next rung is taken, if any."""
    timeout_seconds: float | None = None
    """Unset: as the adapter says."""

    CHECKS = checks(above_zero("attempts", "timeout_seconds"), at_least(0, "cool_down_seconds"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings(Section):
    """Section `[recover.slurm]`."""

    command_timeout_seconds: float = 10.0
    """For each call of scontrol or sinfo."""
    isolate_timeout_seconds: float = 60.0
    restart_timeout_seconds: float = 300.0
    """From requeue to running elsewhere; Slurm's KillWait (30 s) is a part of it."""
    start_delay_seconds: float = 3.0
    """From the end of a job's old processes to its next start. More than the clocks of controller
    and nodes differ: a node refuses a start that seems older than the end before it."""
    fence: tuple[str, ...] = ()
    """A command that proves a node dead (power off), with `{node}`; without it a job whose node
    does not answer is left to a person, because its old processes may still write."""
    start_without_fence: bool = False
    """Start the job even so; only for jobs whose checkpoints are safe from two writers."""
    despite_no_requeue: bool = False
    """Queue also those jobs again whose `Requeue` is 0; for sites where that is the default
    (`JobRequeue=0`) and no user's word."""
    no_requeue_exit_codes: tuple[int, ...] = (93,)
    """A job that ended so asks not to be started again."""
    spare_reservation: str = ""
    """Name of a reservation with `Flags=FLEX` that keeps spare nodes free for what we move."""
    in_place_timeout_seconds: float = 120.0
    """From the end of a job's steps to its next step, in place or shrunk."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the commands: `SLURM_CONF`, say."""

    CHECKS = checks(
        above_zero("command_timeout_seconds", "isolate_timeout_seconds"),
        above_zero("restart_timeout_seconds", "start_delay_seconds", "in_place_timeout_seconds"),
        placeholders("fence", {"node", "incident"}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchrunSettings(Section):
    """Section `[recover.torchrun]`: jobs under an elastic launcher, moved through the agents."""

    answer_timeout_seconds: float = 60.0
    """For one act of an agent; more than its `[jobs] grace_seconds` and 10."""
    restart_timeout_seconds: float = 180.0
    """From the first act to new workers on every node that goes on."""
    regroup_seconds: float = 20.0
    """Nodes that go on and have no new workers by then have theirs ended, one after the other."""

    CHECKS = above_zero("answer_timeout_seconds", "restart_timeout_seconds", "regroup_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings(Section):
    """Section `[recover.checkpoint]`: jobs that still step are asked to save before a restart.

    The agents of their nodes must allow it (`[jobs] allow`).
    """

    timeout_seconds: float = 30.0
    """Then the recovery goes on without."""
    stall_seconds: float = 10.0
    """It goes on as soon as the job has made no step for so long, unless it says that it saves: a
    job that stands still writes no checkpoint."""

    CHECKS = above_zero("timeout_seconds", "stall_seconds")


OF_NODE = {"node", "incident", "recovery", "reason", "fencing_token"}
OF_JOB = {"job", "incident", "recovery", "reason", "fencing_token"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSettings(Section):
    """Section `[recover.exec]`: programs for hosts without a scheduler.

    Each is a list of arguments, run without a shell; `{node}`, `{job}`, `{incident}`, `{recovery}`,
    `{reason}` and `{fencing_token}` are filled in. Exit status 0 is done, 75 is not yet (asked
    again), anything else has failed.
    """

    isolate: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    give_back: tuple[str, ...] = ()
    confirm_isolate: tuple[str, ...] = ()
    """0 where the node is isolated now. Without it the exit status of `isolate` counts."""
    confirm_restart: tuple[str, ...] = ()
    confirm_give_back: tuple[str, ...] = ()
    command_timeout_seconds: float = 30.0
    step_timeout_seconds: float = 120.0
    """For one step with all its repetitions."""
    env: dict[str, str] = field(default_factory=dict)

    CHECKS = checks(
        placeholders("isolate", OF_NODE),
        placeholders("confirm_isolate", OF_NODE),
        placeholders("restart", OF_JOB),
        placeholders("confirm_restart", OF_JOB),
        placeholders("give_back", OF_NODE),
        placeholders("confirm_give_back", OF_NODE),
        above_zero("command_timeout_seconds", "step_timeout_seconds"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings(Section):
    """Section `[recover.gate]`: the check before a node is given back."""

    required: bool = True
    """False: a node is given back unchecked."""
    timeout_seconds: float = 900.0
    """More than the agent's `[gate] timeout_seconds`."""
    retry_seconds: float = 1_800.0
    """After a check that failed."""
    valid_seconds: float = 3_600.0
    """So long a passed check counts."""

    CHECKS = above_zero("timeout_seconds", "retry_seconds", "valid_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackHoleSettings(Section):
    """Section `[recover.black_hole]`: nodes that kill job after job within seconds."""

    jobs: int = 3
    """So many different jobs in a row; 0: nothing is looked for."""
    early_seconds: float = 60.0
    """A job that fails within this of its start died young."""
    window_seconds: float = 600.0
    """Older ends do not count. Slurm itself forgets jobs after its `MinJobAge` (300 s)."""
    poll_seconds: float = 10.0
    """How often the scheduler is asked; less than `CHIPMEDIC_BRAKE_SECONDS` of its epilog."""

    def _several(self) -> Iterator[str]:
        if self.jobs != 0 and self.jobs < 2:
            yield f"jobs: {self.jobs}; at least 2, or 0 for none"

    CHECKS = checks(_several, above_zero("early_seconds", "window_seconds", "poll_seconds"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverSettings(Section):
    """What chipmedic may do to the cluster, and how much of it."""

    mode: Mode = Mode.NOTIFY
    rules: tuple[RuleSettings, ...] = ()
    return_mode: Mode = Mode.PROPOSE
    """Giving a node back after its incident is resolved."""
    maximum_isolated_nodes: int = 4
    """Isolation stops when so many nodes are out of service, whoever took them out."""
    maximum_isolated_percent: float = 10.0
    """The same as a share of the known nodes; the smaller counts, and is never below one."""
    budgets: tuple[BudgetSettings, ...] = ()
    """More of them: for partitions, racks and jobs."""
    breaker_nodes: int = 5
    """More nodes than this, and than the share below, that go bad within the window open the
    breaker: nothing is isolated until a person says so."""
    breaker_percent: float = 2.0
    breaker_window_seconds: float = 300.0
    breaker_out_percent: float = 25.0
    """So does a larger share of the known nodes that is out of service; `breaker_nodes` may be."""
    maximum_restarts_per_job: int = 3
    maximum_isolations_per_node: int = 3
    attempts_window_seconds: float = 86_400.0
    """The time in which the two above are counted."""
    return_cool_down_seconds: float = 1_800.0
    """A device that was isolated for the second time in that window is offered again after this at
    the earliest, at the third time after thrice this."""
    probation_seconds: float = 86_400.0
    """So long after its return a node leaves at a warning of its hardware."""
    lemon_isolations: int = 3
    """A node that was isolated so often within `lemon_days` is kept out until a person gives it
    back."""
    lemon_days: float = 28.0
    lemon_percent: float = 2.0
    """So large a share of the known nodes, one at least, is kept out as lemons at most."""
    maximum_step_attempts: int = 5
    """Failed tries of one step."""
    proposal_valid_seconds: float = 3_600.0
    verify_timeout_seconds: float = 600.0
    """From running again to the first step of the job, where the job reports steps."""
    ladders: tuple[LadderSettings, ...] = ()
    """By which rungs jobs are restarted; none that fits: every rung in order."""
    rungs: dict[Rung, RungSettings] = field(default_factory=dict)
    """Bounds of single rungs."""
    poll_seconds: float = 5.0
    retry_seconds: float = 0.5
    """Between two looks at a step that is under way."""
    hold_file: str = "/etc/chipmedic/hold"
    """While this file exists no isolation and no restart begins."""
    gate: GateSettings = field(default_factory=GateSettings)
    checkpoint: CheckpointSettings | None = None
    black_hole: BlackHoleSettings = field(default_factory=BlackHoleSettings)
    slurm: SlurmSettings | None = None
    kubernetes: KubernetesSettings | None = None
    torchrun: TorchrunSettings | None = None
    exec: ExecSettings | None = None

    CHECKS = checks(
        above_zero("maximum_isolated_nodes", "maximum_isolated_percent"),
        above_zero("maximum_restarts_per_job", "maximum_isolations_per_node"),
        above_zero("attempts_window_seconds", "maximum_step_attempts", "poll_seconds"),
        above_zero("proposal_valid_seconds", "verify_timeout_seconds", "retry_seconds"),
        above_zero("breaker_nodes", "breaker_percent", "breaker_window_seconds"),
        above_zero("breaker_out_percent", "lemon_isolations", "lemon_days", "lemon_percent"),
        at_least(0, "return_cool_down_seconds", "probation_seconds"),
        at_most(100, "maximum_isolated_percent", "breaker_percent", "breaker_out_percent"),
    )

    def rung(self, rung: Rung) -> RungSettings:
        """Return the bounds of a rung."""
        return self.rungs.get(rung) or RUNGS.get(rung) or RungSettings()

    @property
    def all_budgets(self) -> tuple[BudgetSettings, ...]:
        """The budget of the fleet, and those of its parts."""
        fleet = BudgetSettings(
            per=Scope.FLEET,
            nodes=self.maximum_isolated_nodes,
            percent=self.maximum_isolated_percent,
        )
        return (fleet, *self.budgets)


RUNGS = {
    Rung.IN_PLACE: RungSettings(cool_down_seconds=1_800.0),
    Rung.REPLACE: RungSettings(cool_down_seconds=1_800.0),
}
"""What holds for rungs that the configuration does not name: a job that fails again soon after a
gentle restart needs a less gentle one."""
