"""The recovery adapters of this configuration, and the wall around them.

`slurm` and `exec` come with chipmedic; others are entry points of the group
`chipmedic.recoverers`, each a class with `configure(settings)`, which returns None where the
configuration does not name it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import NodeView, Recoverer, Witness
from chipmedic_watchdog.abandon import call_abandonable
from chipmedic_watchdog.recover.exec import Exec
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.recover.slurm import Slurm

LOGGER = logging.getLogger(__name__)
GROUP = "chipmedic.recoverers"
CALL_MARGIN_SECONDS = 5.0
"""An adapter keeps its own deadline; when it is so much over it, the call is left behind."""
VIEWS_TIMEOUT_SECONDS = 30.0

Result = TypeVar("Result")


def configured(settings: RecoverSettings) -> dict[str, Recoverer]:
    """Return the adapters that the configuration asks for, by name."""
    found: dict[str, Recoverer] = {}
    for built_in in (Slurm.configure(settings), Exec.configure(settings)):
        if built_in is not None:
            found[built_in.name] = built_in
    for entry in entry_points(group=GROUP):
        if entry.name not in ("slurm", "exec"):
            adapter = _load(entry.name, entry.load, settings)
            if adapter is not None:
                found[adapter.name] = adapter
    return found


def _load(
    name: str, load: Callable[[], type[Slurm]], settings: RecoverSettings
) -> Recoverer | None:
    try:
        return load().configure(settings)
    except Exception:  # foreign code: one bad plug-in must not stop the others
        LOGGER.exception("recovery adapter cannot be loaded: name=%s", name)
        return None


async def call(adapter: Recoverer, work: Callable[[], Result], *, timeout_seconds: float) -> Result:
    """Call an adapter off the event loop, with a deadline.

    Raises:
        DeliveryFailed: it said so, it took too long, or it has a defect (logged with traceback).
    """
    limit_seconds = timeout_seconds + CALL_MARGIN_SECONDS
    try:
        return await call_abandonable(
            work, timeout_seconds=limit_seconds, name=f"recover-{adapter.name}"
        )
    except TimeoutError as e:
        raise DeliveryFailed(f"{adapter.name}: no answer in {limit_seconds:g} s") from e
    except DeliveryFailed:
        raise
    except Exception as e:  # foreign code: a defect of an adapter holds its recovery, not all
        LOGGER.exception("recovery adapter failed: name=%s", adapter.name)
        raise DeliveryFailed(
            f"{adapter.name}: defect in the adapter: {type(e).__name__}: {e}", is_permanent=True
        ) from e


class Watch:
    """The witnesses' word on nodes, asked at most so often, because the question is a heavy one."""

    def __init__(self, adapters: Mapping[str, Recoverer]) -> None:
        self._adapters = adapters
        self._last: dict[str, tuple[float, dict[str, NodeView] | DeliveryFailed]] = {}

    async def views(
        self, adapter: str, known: Iterable[str], *, oldest_seconds: float
    ) -> dict[str, NodeView] | None:
        """Return what the adapter's scheduler says of its nodes; None: it has no eyes.

        Raises:
            DeliveryFailed: it has, and could not look.
        """
        witness = self._adapters.get(adapter)
        if not isinstance(witness, Witness):
            return None
        at, views = self._last.get(adapter, (float("-inf"), {}))
        if time.monotonic() - at > oldest_seconds:
            views = await _ask(witness, witness.nodes)
            self._last[adapter] = (time.monotonic(), views)
        if isinstance(views, DeliveryFailed):
            raise DeliveryFailed(str(views)) from views
        return by_our_names(views, known)


async def _ask(
    adapter: Recoverer, nodes: Callable[[], list[NodeView]]
) -> dict[str, NodeView] | DeliveryFailed:
    """Ask once; a failure is an answer too, so that one that hangs is not asked again and again."""
    try:
        asked = await call(adapter, nodes, timeout_seconds=VIEWS_TIMEOUT_SECONDS)
    except DeliveryFailed as e:
        return e
    return {view.node: view for view in asked}


def by_our_names(views: Mapping[str, NodeView], known: Iterable[str]) -> dict[str, NodeView]:
    """Key the views by our names of the nodes: a scheduler may use the short name of a host."""
    renamed = dict(views)
    for node in known:
        short = node.partition(".")[0]
        if node not in views and short in views:
            renamed[node] = renamed.pop(short, views[short])
    return renamed
