"""What a person does at any of the watchdogs, in one order with what the leader writes."""

from __future__ import annotations

from sqlalchemy import Connection

from chipmedic_watchdog.lead.lease import stand_before_the_leader
from chipmedic_watchdog.lead.signals import Signal, tell


def begin_act(connection: Connection) -> None:
    """Call first in the transaction of a person's act: the leader's next write sees it."""
    stand_before_the_leader(connection)
    tell(connection, Signal.ACT)
