"""The recovery adapters of this configuration, and the wall around them.

`slurm`, `kubernetes`, `torchrun` and `exec` come with chipmedic; others are entry points of the
group `chipmedic.recoverers`, each a class with `configure(settings)`, which returns None where the
configuration does not name it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TypeVar

from chipmedic.errors import DeliveryFailed
from chipmedic.host import Host
from chipmedic.recoverer import NodeView, Recoverer, Step, Witness
from chipmedic_watchdog.abandon import call_abandonable
from chipmedic_watchdog.recover.agents import Agents
from chipmedic_watchdog.recover.exec import Exec
from chipmedic_watchdog.recover.kubernetes.adapter import Kubernetes
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.recover.slurm import Slurm
from chipmedic_watchdog.recover.torchrun import Torchrun

LOGGER = logging.getLogger(__name__)
GROUP = "chipmedic.recoverers"
BUILT_IN = ("slurm", "kubernetes", "exec")
CALL_MARGIN_SECONDS = 5.0
"""An adapter keeps its own deadline; when it is so much over it, the call is left behind."""
VIEWS_TIMEOUT_SECONDS = 30.0

Result = TypeVar("Result")


def configured(
    settings: RecoverSettings,
    host: Host | None = None,
    assert_leading: Callable[[], None] = lambda: None,
    agents: Agents | None = None,
) -> dict[str, Recoverer]:
    """Return the adapters that the configuration asks for, by name.

    `host` runs the tools of those that come with chipmedic; those that use no tool call
    `assert_leading` before each change, which raises `StoreError` where this watchdog must not;
    `agents` is how some reach the nodes.
    """
    found: dict[str, Recoverer] = {}
    if settings.slurm is not None:
        found[Slurm.name] = Slurm(settings.slurm, host)
    if settings.kubernetes is not None:
        found[Kubernetes.name] = Kubernetes(
            settings.kubernetes, host, assert_leading=assert_leading
        )
    if settings.torchrun is not None and agents is not None:
        found[Torchrun.name] = Torchrun(settings.torchrun, agents)
    if settings.exec is not None:
        found[Exec.name] = Exec(settings.exec, host)
    for entry in entry_points(group=GROUP):
        if entry.name not in BUILT_IN:
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


def with_token(step: Step, token: int) -> Step:
    """Return a step as it is given to the adapter: under the token of the present leader."""
    return replace(step, arguments={**step.arguments, "fencing_token": str(token)})


class Watch:
    """The witnesses' word on nodes, asked at most so often, because the question is a heavy one."""

    def __init__(self, adapters: Mapping[str, Recoverer]) -> None:
        self._adapters = adapters
        self._last: dict[str, tuple[float, dict[str, NodeView] | DeliveryFailed]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

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

    async def soon(
        self, adapter: str, known: Iterable[str], patience: Patience
    ) -> dict[str, NodeView] | None:
        """Do what `views` does without waiting long: None also where the answer is not there yet.

        The question goes on beside the caller, who is rung when the answer comes. A refusal to
        answer is None too.
        """
        witness = self._adapters.get(adapter)
        if witness is None or not isinstance(witness, Witness):
            return None
        if time.monotonic() - self._at(adapter) > patience.oldest_seconds:
            task = self._asking.get(adapter)
            if task is None:
                task = patience.group.create_task(
                    self._refresh(witness, witness.nodes, patience.on_answer), name=f"ask {adapter}"
                )
                self._asking[adapter] = task
            await asyncio.wait({task}, timeout=patience.wait_seconds)
        at, views = self._last.get(adapter, (float("-inf"), {}))
        is_trusted = time.monotonic() - at <= patience.trusted_seconds
        if isinstance(views, DeliveryFailed) or not is_trusted:
            return None
        return by_our_names(views, known)

    def _at(self, adapter: str) -> float:
        return self._last.get(adapter, (float("-inf"), {}))[0]

    async def _refresh(
        self,
        adapter: Recoverer,
        nodes: Callable[[], list[NodeView]],
        on_answer: Callable[[], None],
    ) -> None:
        try:
            views = await _ask(adapter, nodes)
            self._last[adapter.name] = (time.monotonic(), views)
            if isinstance(views, DeliveryFailed):
                LOGGER.warning("no second witness: adapter=%s why=%s", adapter.name, views)
        finally:
            del self._asking[adapter.name]
        on_answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a question to a scheduler may hold up whoever asks."""

    wait_seconds: float
    oldest_seconds: float
    """An older answer is asked for anew ..."""
    trusted_seconds: float
    """... and counts meanwhile, up to this age."""
    group: asyncio.TaskGroup
    """In which the question goes on."""
    on_answer: Callable[[], None]


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
