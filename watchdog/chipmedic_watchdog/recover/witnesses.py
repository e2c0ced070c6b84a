"""What all schedulers together say of their nodes, for those who only want to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy import Connection, select

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import NodeView, Witness
from chipmedic_watchdog.recover import adapters as adapters_of
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

OLDEST_SECONDS = 1.0
"""Many silent nodes of one moment share one question."""


def witness_of(
    database: Store, settings: RecoverSettings
) -> Callable[[], Awaitable[Mapping[str, NodeView]]] | None:
    """Return the question to all configured schedulers that have eyes; None: there is none."""
    adapters = {
        name: adapter
        for name, adapter in adapters_of.configured(settings).items()
        if isinstance(adapter, Witness)
    }
    if not adapters:
        return None
    watch = adapters_of.Watch(adapters)

    async def ask() -> Mapping[str, NodeView]:
        known = await database.read(_nodes)
        views: dict[str, NodeView] = {}
        failures: list[DeliveryFailed] = []
        for name in adapters:
            try:
                views.update(await watch.views(name, known, oldest_seconds=OLDEST_SECONDS) or {})
            except DeliveryFailed as e:
                failures.append(e)
        if failures and not views:
            raise failures[0]
        return views

    return ask


def _nodes(connection: Connection) -> list[str]:
    return list(connection.execute(select(schema.nodes.c.node)).scalars())
