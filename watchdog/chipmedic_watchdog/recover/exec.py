"""The adapter for hosts without a scheduler: programs from the configuration do the work.

Contract with each program: a list of arguments without a shell, placeholders filled in; exit
status 0 = done, 75 (EX_TEMPFAIL) = not yet, ask again; anything else = failed, and its last line is
the reason. It must be idempotent: the watchdog asks again after its own death. `{recovery}` tells a
repetition from a second restart of the same job in one incident. `{fencing_token}` grows with each
change of the leading watchdog: a program may refuse one that is lower than it has seen.
"""

from __future__ import annotations

import os
from typing import Self

from chipmedic.errors import DeliveryFailed, ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Answer, Host, LinuxHost
from chipmedic.recoverer import RecoveryRequest, Step, StepKind, StepResult
from chipmedic_watchdog.recover.settings import ExecSettings, RecoverSettings

PROGRAMS = {StepKind.ISOLATE: "isolate", StepKind.RESTART: "restart", StepKind.RETURN: "give_back"}


class Exec:
    """Runs the configured programs."""

    name = "exec"

    def __init__(self, settings: ExecSettings, host: Host | None = None) -> None:
        self._settings = settings
        self._host = host or LinuxHost()

    @classmethod
    def configure(cls, settings: RecoverSettings) -> Self | None:
        """Return the adapter where `[recover.exec]` is in the configuration."""
        return None if settings.exec is None else cls(settings.exec)

    def plan(self, request: RecoveryRequest) -> list[Step]:
        """Plan a step for each node and job that has a program; see `Recoverer.plan`.

        Raises:
            DeliveryFailed: a program that is needed is not configured.
        """
        wanted = [(StepKind.ISOLATE, node) for node in request.nodes]
        wanted += [(StepKind.RESTART, job) for job in request.jobs]
        return [self._step(kind, target, request) for kind, target in wanted]

    def do(self, step: Step) -> StepResult:
        """Run the step's program; see `Recoverer.do`."""
        return self._run(PROGRAMS[step.kind], step)

    def confirm(self, step: Step) -> StepResult:
        """Run the step's `confirm_*` program, where there is one; else `do` has said it."""
        name = f"confirm_{PROGRAMS[step.kind]}"
        if not getattr(self._settings, name):
            return StepResult(is_done=True, detail="its program said so")
        return self._run(name, step)

    def _step(self, kind: StepKind, target: str, request: RecoveryRequest) -> Step:
        arguments = {
            "incident": request.incident,
            "recovery": request.recovery,
            "reason": request.reason,
        }
        argv = self._argv(PROGRAMS[kind], kind, target, arguments)
        return Step(
            kind=kind,
            target=target,
            description=f"{kind.value} {target}: {' '.join(argv)}",
            timeout_seconds=self._settings.step_timeout_seconds,
            arguments=arguments,
        )

    def _argv(self, name: str, kind: StepKind, target: str, arguments: dict[str, str]) -> list[str]:
        template: tuple[str, ...] = getattr(self._settings, name)
        if not template:
            raise DeliveryFailed(f"[recover.exec] {name} is not configured", is_permanent=True)
        values = {
            "job" if kind is StepKind.RESTART else "node": target,
            "incident": arguments.get("incident", ""),
            "recovery": arguments.get("recovery", ""),
            "reason": arguments.get("reason", ""),
            "fencing_token": arguments.get("fencing_token", "0"),
        }
        return [argument.format_map(values) for argument in template]

    def _run(self, name: str, step: Step) -> StepResult:
        argv = self._argv(name, step.kind, step.target, step.arguments)
        try:
            answer = self._host.run(
                argv,
                timeout_seconds=self._settings.command_timeout_seconds,
                env=self._settings.env,
            )
        except ToolMissing as e:
            raise DeliveryFailed(f"{name}: {e}", is_permanent=True) from e
        except (ToolFailed, ToolBlocked) as e:
            raise DeliveryFailed(f"{name}: {e}") from e
        said = _last_line(answer)
        if answer.exit_code == 0:
            return StepResult(is_done=True, detail=said or f"{argv[0]} is done")
        if answer.exit_code == os.EX_TEMPFAIL:
            return StepResult(is_done=False, detail=said or f"{argv[0]} is not done yet")
        raise DeliveryFailed(f"{argv[0]} ended with {answer.exit_code}: {said or 'no output'}")


def _last_line(answer: Answer) -> str:
    """Return what a program said last, on standard output or else on standard error."""
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    return lines[-1].strip()[:300] if lines else ""
