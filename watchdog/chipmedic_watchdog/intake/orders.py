"""What the watchdog asks of an agent: look now, check the node, act on a job."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from chipmedic.errors import DeliveryFailed
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.intake.sessions import Sessions


async def collect_now(
    sessions: Sessions,
    node: str,
    checks: Sequence[str] = (),
    *,
    fencing_token: int = 0,
    timeout_seconds: float = 30.0,
) -> pb.CommandResult:
    """Let an agent run its checks (all when none is named) and return what it says.

    The agent refuses a lower token than it has seen: that of a watchdog that stood still.

    Raises:
        DeliveryFailed: the node has no stream, or does not answer in time.
    """
    command = pb.Command(
        id=secrets.token_hex(8),
        collect_now=pb.CollectNow(checks=checks),
        expires_after_seconds=timeout_seconds,
        fencing_token=fencing_token,
    )
    return await _order(sessions, node, command, timeout_seconds)


async def run_gate(
    sessions: Sessions, node: str, *, fencing_token: int = 0, timeout_seconds: float
) -> pb.CommandResult:
    """Let an agent run the check before its node is given back; return what it says.

    Raises:
        DeliveryFailed: as `collect_now`.
    """
    command = pb.Command(
        id=secrets.token_hex(8),
        run_gate=pb.RunGate(),
        expires_after_seconds=timeout_seconds,
        fencing_token=fencing_token,
    )
    return await _order(sessions, node, command, timeout_seconds)


async def job_act(
    sessions: Sessions, node: str, act: pb.JobAct, *, fencing_token: int, timeout_seconds: float
) -> pb.CommandResult:
    """Let an agent do something for a job of its node; return what it says.

    Raises:
        DeliveryFailed: as `collect_now`.
    """
    command = pb.Command(
        id=secrets.token_hex(8),
        job_act=act,
        expires_after_seconds=timeout_seconds,
        fencing_token=fencing_token,
    )
    return await _order(sessions, node, command, timeout_seconds)


async def _order(
    sessions: Sessions, node: str, command: pb.Command, timeout_seconds: float
) -> pb.CommandResult:
    session = sessions.live.get(node)
    if session is None:
        raise DeliveryFailed(f"{node} is not connected")
    waiting: asyncio.Future[pb.CommandResult] = asyncio.get_running_loop().create_future()
    session.commands[command.id] = waiting
    session.send(pb.WatchdogMessage(command=command))
    try:
        async with asyncio.timeout(timeout_seconds):
            return await waiting
    except TimeoutError as e:
        raise DeliveryFailed(f"{node} did not answer in {timeout_seconds:g} s") from e
    except asyncio.CancelledError:
        if waiting.cancelled() and not _is_being_cancelled():
            raise DeliveryFailed(f"{node} has lost its stream") from None
        raise
    finally:
        session.commands.pop(command.id, None)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
