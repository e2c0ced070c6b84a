"""Whether the agent of this host can do what `[jobs] allow` lets it do to jobs; reads only.

What counts are the rights of the process that runs, not those in its unit: a drop-in that was
written and never loaded looks well on paper.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chipmedic.host import Host

CONFIG = "/etc/chipmedic/agent.toml"
AGENT = re.compile(r"(^|[/\0])chipmedic[-_]agent(\0|$)")
DROP_IN = "deploy/torchrun/agent-job-acts.conf as a drop-in of its unit, then restart it"


@dataclass(frozen=True, slots=True)
class Right:
    """One capability that acts on jobs need."""

    bit: int
    name: str
    why: str
    acts: tuple[str, ...]
    remedy: str


RIGHTS = (
    Right(5, "CAP_KILL", "it can signal no process of another user",
          ("checkpoint", "leave", "restart"), DROP_IN),
    Right(19, "CAP_SYS_PTRACE", "it cannot see which launcher a job has",
          ("leave", "restart"), "the unit as chipmedic ships it (systemd/chipmedic-agent.service)"),
)  # fmt: skip
"""Bits: linux/capability.h."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What was found; `remedy` is empty where nothing is wrong."""

    what: str
    detail: str
    remedy: str = ""
    is_known: bool = True
    """False: nobody can say, for no agent runs."""


def examine(host: Host) -> Iterator[Lack]:
    """Yield what acts on jobs need and what of it is there; nothing where none is configured."""
    try:
        jobs = tomllib.loads(host.read(CONFIG)).get("jobs", {})
    except (OSError, ValueError):
        return  # no file, or one that `chipmedic config check` tells of
    acts = _acts(jobs)
    if not acts:
        return
    asked = ", ".join(sorted(acts))
    rights = next(_rights_of_agents(host), None)
    if rights is None:
        words = f"[jobs] allows {asked}, and no agent runs whose rights could be looked at"
        yield Lack("acts on jobs", words, "systemctl start chipmedic-agent", is_known=False)
        return
    for right in RIGHTS:
        if not acts & set(right.acts):
            continue
        if rights >> right.bit & 1:
            yield Lack(right.name, f"the agent has it: {asked} can be done")
        else:
            words = f"the agent lacks it, so {right.why}; [jobs] allows {asked}"
            yield Lack(right.name, words, f"put {right.remedy}")


def _acts(jobs: Any) -> set[str]:
    """Return the acts that need rights; a checkpoint by a file alone needs none."""
    if not isinstance(jobs, Mapping) or not isinstance(jobs.get("allow", []), list):
        return set()
    acts = {str(act) for act in jobs.get("allow", [])}
    return acts if jobs.get("checkpoint_signal", "SIGUSR1") else acts - {"checkpoint"}


def _rights_of_agents(host: Host) -> Iterator[int]:
    """Yield the effective capabilities of each agent that runs here."""
    for path in host.glob("/proc/[0-9]*/cmdline"):
        try:
            if not AGENT.search(host.read(path)):
                continue
            status = host.read(path.replace("/cmdline", "/status"))
        except OSError:
            continue  # it has ended meanwhile
        if match := re.search(r"^CapEff:\s*([0-9a-fA-F]+)", status, re.MULTILINE):
            yield int(match[1], 16)
