"""The real configuration files of a simulated cluster's daemons."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping

from chipmedic_simulator.layout import Addresses, Layout
from chipmedic_simulator.node import SimulatedNode, Vendor

JOB = "pretrain"
CHECKPOINT_EVERY = 20
"""Steps between two checkpoints; a step takes 0.2 s."""
HEARTBEAT_SECONDS = 1.0
JOB_LOOK_SECONDS = 0.5
"""More often than the 2 s of a real node, so that the ledger's phases are sharp."""
KERNEL_LOG_SECONDS = 0.1
MANY = 1000
REOPEN_SECONDS = 5.0
"""A fault that is injected again a moment later is a new incident here, to be answered anew."""

Value = str | float | bool | list[str] | dict[str, str]


def agent_config(addresses: Addresses, node: SimulatedNode) -> str:
    """Return a node's `agent.toml`."""
    other = Vendor.ASCEND if node.vendor is Vendor.NVIDIA else Vendor.NVIDIA
    return _toml(
        {
            "": {
                "node": node.name,
                "watchdogs": [f"127.0.0.1:{addresses.stream_port}"],
                "state_directory": str(node.folder / "agent"),
                "progress_socket": str(addresses.progress_socket(node.name)),
                "host_root": str(node.root),
            },
            "labels": {"cluster": "demo", "partition": node.vendor.value},
            "stream": {"heartbeat_seconds": HEARTBEAT_SECONDS},
            "http": {"listen": f"127.0.0.1:{addresses.agent_ports[node.name]}"},
            # Should this machine have chips of its own, they are no part of the simulation.
            f"collectors.{other.value}": {"enabled": False},
            "collectors.jobs": {"period_seconds": JOB_LOOK_SECONDS},
            # The simulated kernel log is a file, which wakes nobody as the device does.
            "collectors.kernel_log": {"period_seconds": KERNEL_LOG_SECONDS},
        }
    )


def watchdog_config(layout: Layout, addresses: Addresses, language: str) -> str:
    """Return `watchdog.toml`: it tells a pager and a desk, and acts by the scheduler's commands."""
    scheduler = _module("scheduler", "--folder", str(layout.scheduler))
    # The scheduler has one job and knows it by its own name.
    restart = [JOB, "--token", "{recovery}"]
    return _toml(
        {
            "store": {"url": f"sqlite:///{layout.watchdog}/watchdog.db"},
            "stream": {
                "listen": f"127.0.0.1:{addresses.stream_port}",
                "heartbeat_seconds": HEARTBEAT_SECONDS,
            },
            "http": {"listen": f"127.0.0.1:{addresses.http_port}"},
            "incidents": {"reopen_seconds": REOPEN_SECONDS},
            "notify": {"language": language},
            "notify.channels.pager": {
                "kind": "command",
                "argv": module_argv("inbox", "pager", str(layout.inbox)),
            },
            "notify.channels.desk": {
                "kind": "webhook",
                "url": f"http://127.0.0.1:{addresses.desk_port}/notices",
                "secret_file": str(layout.secret),
            },
            "recover": {
                "mode": "act",
                "return_mode": "act",
                "hold_file": str(layout.watchdog / "hold"),
                # A demo that is kept is broken by hand, again and again.
                "maximum_restarts_per_job": MANY,
                "maximum_isolations_per_node": MANY,
                "lemon_isolations": MANY,
                "return_cool_down_seconds": 0,
            },
            "recover.gate": {"required": False},
            "recover.exec": {
                "isolate": [*scheduler, "isolate", "{node}", "--reason", "{reason}"],
                "confirm_isolate": [*scheduler, "is-isolated", "{node}"],
                "restart": [*scheduler, "restart", *restart],
                "confirm_restart": [*scheduler, "is-running", *restart],
                "give_back": [*scheduler, "give-back", "{node}"],
            },
        }
    )


def module_argv(name: str, *words: str) -> list[str]:
    """Return the command line of a module of the simulator.

    `-P` keeps the working directory off the import path: a folder there must not become our code.
    """
    return [sys.executable, "-P", "-m", f"chipmedic_simulator.{name}", *words]


def _module(name: str, *words: str) -> list[str]:
    """Return the same for a configuration that fills in `{...}`."""
    return [word.replace("{", "{{").replace("}", "}}") for word in module_argv(name, *words)]


def _toml(sections: Mapping[str, Mapping[str, Value]]) -> str:
    return "\n".join(_section(name, values) for name, values in sections.items())


def _section(name: str, values: Mapping[str, Value]) -> str:
    lines: Iterable[str] = (f"{key} = {_value(value)}" for key, value in values.items())
    head = [f"[{name}]"] if name else []
    return "\n".join([*head, *lines, ""])


def _value(value: Value) -> str:
    # A string of JSON is a string of TOML, and so are numbers, booleans and lists of them.
    return json.dumps(value, ensure_ascii=False)
