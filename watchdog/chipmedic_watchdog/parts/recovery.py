"""Jobs are kept running: the leader decides, every watchdog asks the agents that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.lead.leader import Part
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.intake import IntakeParts
from chipmedic_watchdog.parts.replaceable import Replaceable
from chipmedic_watchdog.parts.store import StoreParts
from chipmedic_watchdog.recover.gate_runner import GateRunner
from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.order_runner import OrderRunner


class Recovery(Replaceable[RecoverLoop]):
    """The loop of recovery by the present settings."""

    def __init__(
        self, settings: WatchdogSettings, store: StoreParts, on_order: Callable[[], None]
    ) -> None:
        """`on_order` is called when an agent is to do something."""
        self._store = store
        self._on_order = on_order
        self.on_change: Callable[[], None] = lambda: None
        """Called when a recovery has changed, or a job kills node after node."""
        super().__init__("recover", self._make(settings))

    def take(self, new: WatchdogSettings) -> None:
        """Recover by new settings."""
        self.replace(self._make(new))

    def _make(self, settings: WatchdogSettings) -> RecoverLoop:
        return RecoverLoop(
            self._store.leader,
            settings.recover,
            on_change=lambda: self.on_change(),
            on_order=self._on_order,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryParts:
    """What decides, and what has agents do it."""

    loop: Recovery
    orders: OrderRunner
    gates: GateRunner

    def parts(self) -> dict[str, Part]:
        """Return what runs at every watchdog."""
        return {"checks before returns": self.gates.run, "orders to agents": self.orders.run}


def build_recovery(
    settings: WatchdogSettings,
    store: StoreParts,
    intake: IntakeParts,
    own: Instruments,
    present: Callable[[], WatchdogSettings],
) -> RecoveryParts:
    """Make the parts; `present` returns the settings that are in force."""
    orders = OrderRunner(store.database, intake.sessions, now=own.clock.now)
    loop = Recovery(settings, store, orders.wake)
    gates = GateRunner(
        store.database,
        intake.sessions,
        token=lambda: store.lead.token,
        timeout_seconds=lambda: present().recover.gate.timeout_seconds,
        now=own.clock.now,
        on_change=loop.wake,
    )
    return RecoveryParts(loop=loop, orders=orders, gates=gates)
