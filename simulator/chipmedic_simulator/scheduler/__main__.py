"""The scheduler's commands, for `[recover.exec]` and for people.

    python -m chipmedic_simulator.scheduler --folder F run
    python -m chipmedic_simulator.scheduler --folder F isolate NODE --reason R
    python -m chipmedic_simulator.scheduler --folder F is-isolated NODE
    python -m chipmedic_simulator.scheduler --folder F give-back NODE
    python -m chipmedic_simulator.scheduler --folder F restart JOB --token T
    python -m chipmedic_simulator.scheduler --folder F is-running JOB --token T
    python -m chipmedic_simulator.scheduler --folder F status

Exit status: 0 done, 75 (EX_TEMPFAIL) not yet, 1 failed. Each can be repeated: a restart carries a
token (the recovery) and happens once per token.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from chipmedic_simulator.scheduler.launcher import Launcher
from chipmedic_simulator.scheduler.state import ClusterState, edit, read_state

EXIT_NOT_YET = os.EX_TEMPFAIL


def isolate(folder: Path, name: str, reason: str) -> int:
    """Keep new work off a node; a reason that stands is not replaced."""
    with edit(folder) as state:
        node = state.nodes[name]
        if not node.is_isolated:
            node.is_isolated, node.reason = True, reason
    _say(f"{name} is isolated: {reason}")
    return 0


def is_isolated(folder: Path, name: str) -> int:
    """Say whether a node gets no work."""
    node = read_state(folder).nodes[name]
    _say(f"{name} is isolated: {node.reason}" if node.is_isolated else f"{name} takes work")
    return 0 if node.is_isolated else EXIT_NOT_YET


def give_back(folder: Path, name: str) -> int:
    """Offer a node again."""
    with edit(folder) as state:
        state.nodes[name].is_isolated, state.nodes[name].reason = False, ""
    _say(f"{name} takes work")
    return 0


def restart(folder: Path, job: str, token: str) -> int:
    """Stop the job and start it again on nodes that are not isolated, from its last checkpoint."""
    with edit(folder) as state:
        _known(state, job)
        if token not in state.job.tokens:
            state.job.tokens.append(token)
            state.job.attempt += 1
    return is_running(folder, job, token)


def is_running(folder: Path, job: str, token: str) -> int:
    """Say whether the attempt that a token asked for has been started."""
    state = read_state(folder)
    _known(state, job)
    if token in state.job.tokens and state.job.running_attempt == state.job.attempt:
        nodes = ", ".join(rank.node for rank in state.job.running)
        _say(f"attempt {state.job.attempt} of {job} runs on {nodes}")
        return 0
    _say(f"{job} waits for {state.job.ranks} nodes that are not isolated")
    return EXIT_NOT_YET


def _known(state: ClusterState, job: str) -> None:
    if job != state.job.name:
        raise KeyError(job)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scheduler", description="The simulated scheduler.")
    parser.add_argument("--folder", type=Path, required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("run", "be the daemon"), ("status", "print the state as JSON")):
        commands.add_parser(name, help=words)
    for name, words in (
        ("isolate", "keep work off a node"),
        ("is-isolated", "0 or 75"),
        ("give-back", "offer a node again"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("node")
        if name == "isolate":
            command.add_argument("--reason", default="")
    for name, words in (
        ("restart", "start the job again, once per token"),
        ("is-running", "0 or 75"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("job")
        command.add_argument("--token", required=True)
    return parser


def _answer(given: argparse.Namespace) -> int:
    folder: Path = given.folder
    match given.command:
        case "run":
            return Launcher(folder).run()
        case "isolate":
            return isolate(folder, given.node, given.reason)
        case "is-isolated":
            return is_isolated(folder, given.node)
        case "give-back":
            return give_back(folder, given.node)
        case "restart":
            return restart(folder, given.job, given.token)
        case "is-running":
            return is_running(folder, given.job, given.token)
    _say(json.dumps(asdict(read_state(folder)), indent=1))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; an unknown node or job is one line and exit status 1."""
    given = _parser().parse_args(argv)
    try:
        return _answer(given)
    except KeyError as e:
        sys.stderr.write(f"scheduler: {given.command}: no such node or job: {e.args[0]}\n")
    except OSError as e:
        sys.stderr.write(f"scheduler: {given.command}: {e}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
