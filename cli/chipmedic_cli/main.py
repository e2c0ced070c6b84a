"""The command `chipmedic`: one function per command, each in a file of its own.

Exit codes: 0 done, 1 something is wrong (an incident is open, an act was refused), 2 the command
line or a configuration is wrong, 3 the watchdog cannot be reached.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from chipmedic.errors import ChipmedicError, ConfigError, told
from chipmedic_cli import access, audit, config, notices, recoveries, silences
from chipmedic_cli import hold as hold_command
from chipmedic_cli import replay as replay_command
from chipmedic_cli import report as report_command
from chipmedic_cli.client import CA_VARIABLE
from chipmedic_cli.options import JsonOption, WatchdogOption, WhoOption, print_json

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="chipmedic",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
incidents_app = typer.Typer(no_args_is_help=True, help="What happened, and what became of it.")
app.add_typer(incidents_app, name="incidents")
app.add_typer(recoveries.app, name="recoveries")
app.add_typer(notices.app, name="notices")
app.add_typer(silences.silence_app, name="silence")
app.add_typer(silences.maintenance_app, name="maintenance")
app.add_typer(config.app, name="config")
app.command("give-back")(recoveries.give_back)
app.command("hold")(hold_command.hold)
app.command("release")(hold_command.release)
app.command("report")(report_command.report)
app.command("replay")(replay_command.replay)


def _become(program: str, arguments: list[str]) -> NoReturn:
    """Replace this process by a daemon, which then has none of the command line's libraries."""
    path = Path(sys.executable).with_name(program)
    os.execv(path, [str(path), *arguments])  # noqa: S606 - our own program, no shell


@app.command(context_settings=PASS_THROUGH, add_help_option=False)
def agent(context: typer.Context) -> None:
    """Run the agent of this host (the same as chipmedic-agent; see its --help)."""
    _become("chipmedic-agent", context.args)


@app.callback()
def main(
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            envvar=CA_VARIABLE,
            help="Authority (PEM) that has signed the watchdog's HTTPS certificate.",
        ),
    ] = None,
) -> None:
    """Watches the accelerator chips of training clusters and keeps the jobs on them running."""
    if ca is not None:
        os.environ[CA_VARIABLE] = str(ca)


class DaemonOr(TyperGroup):
    """`chipmedic watchdog token ...` is a command; with anything else it is the daemon itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Become the daemon unless one of the commands is named."""
        if args and (args[0] in self.commands or args[0] == "--help"):
            rest: list[str] = super().parse_args(ctx, args)
            return rest
        _become("chipmedic-watchdog", args)


watchdog_app = typer.Typer(
    cls=DaemonOr,
    help="Run the central watchdog (--config, --check-config: see chipmedic-watchdog --help), "
    "or say who may do what.",
)
watchdog_app.add_typer(access.tokens_app, name="token")
watchdog_app.add_typer(access.nodes_app, name="node")
app.add_typer(watchdog_app, name="watchdog")
app.add_typer(audit.app, name="audit")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave everything running afterwards.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Folder for it; default: a temporary one.")
    ] = None,
    language: Annotated[str, typer.Option(help="Language of the notices: en or zh.")] = "en",
) -> None:
    """Show the whole path on simulated chips: a fault, a notice, a job that runs again."""
    from chipmedic_cli.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, state=state, language=language))


@app.command()
def status(watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """Show nodes, jobs and open incidents.

    Exits with 1 while an incident is open, with 3 where no watchdog answers.
    """
    from chipmedic_cli import status as command
    from chipmedic_cli.client import Client

    with Client(watchdog) as client:
        answer = command.gather(client)
    if as_json:
        print_json(answer)
    else:
        command.show(answer)
    raise typer.Exit(EXIT_FAILED if answer["incidents"] else 0)


@incidents_app.command("list")
def incidents_list(
    watchdog: WatchdogOption,
    show_all: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List incidents, newest first."""
    from chipmedic_cli import incidents as command
    from chipmedic_cli.client import Client

    with Client(watchdog) as client:
        answer = command.gather(client, show_all=show_all)
    if as_json:
        print_json(answer)
    else:
        command.show_list(answer)


@incidents_app.command("show")
def incidents_show(incident: str, watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """Show one incident: faults, evidence, notices, recovery steps."""
    from chipmedic_cli import incidents as command
    from chipmedic_cli.client import Client, named

    with Client(watchdog) as client:
        answer = client.get(f"/api/v1/incidents/{named('incident', incident)}")
    if as_json:
        print_json(answer)
    else:
        command.show_one(answer)


@incidents_app.command("ack")
def incidents_acknowledge(
    incident: str,
    watchdog: WatchdogOption,
    who: WhoOption,
    why: Annotated[str, typer.Option("--why", help="A note for the others.")] = "",
) -> None:
    """Say that somebody looks after an incident."""
    _act(watchdog, incident, "acknowledge", who, why)


@incidents_app.command("resolve")
def incidents_resolve(
    incident: str,
    why: Annotated[str, typer.Option("--why", help="What was done.")],
    watchdog: WatchdogOption,
    who: WhoOption,
) -> None:
    """Close an incident by hand."""
    _act(watchdog, incident, "resolve", who, why)


def _act(watchdog: str, incident: str, act: str, who: str, why: str) -> None:
    from chipmedic_cli import incidents as command
    from chipmedic_cli.client import Client, named

    with Client(watchdog) as client:
        path = f"/api/v1/incidents/{named('incident', incident)}/{act}"
        answer = client.post(path, {"who": who, "why": why})
    typer.echo(f"{answer['id']}: {answer['state']}")
    if note := command.left_open(answer):
        typer.echo(note, err=True)


@app.command()
def explain(
    file: Annotated[str, typer.Argument(help="A log; - for standard input.")] = "-",
    as_json: JsonOption = False,
    independent: Annotated[
        bool, typer.Option("--independent", help="Each line by itself (with --json).")
    ] = False,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
) -> None:
    """Say what a pasted log means: what happened, on which chip, how bad, where to start."""
    from chipmedic_cli import explain as command

    command.run(file, as_json=as_json, independent=independent, language=language)


@app.command()
def parse(
    stdout_file: Path,
    tool_argv: Annotated[
        str, typer.Option("--tool-argv", help="The tool's command line, quoted as for a shell.")
    ],
    exit_code: Annotated[int | None, typer.Option(help="The tool's exit status.")] = None,
    stderr: Annotated[Path | None, typer.Option(help="What it wrote to stderr.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what one run of a vendor's tool stated."""
    from chipmedic_cli import parse as command

    answer = command.parse_command(stdout_file, tool_argv, exit_code, stderr)
    if as_json:
        print_json(answer)
    else:
        command.show(answer)


@app.command()
def doctor(
    as_json: JsonOption = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="Measure what each call of each collector costs.")
    ] = False,
    scans: Annotated[int, typer.Option(help="With --timing: scans of each.", min=1)] = 3,
    root: Annotated[
        str, typer.Option(help="With --timing: the host's files lie below this folder.")
    ] = "/",
) -> None:
    """Say what was found on this host and what to do about each gap (exit code 1 if any)."""
    from chipmedic_cli import doctor as command

    if timing:
        _timing(as_json=as_json, scans=scans, root=root, is_agent_here=command.is_agent_here())
        return
    findings = command.examine()
    if as_json:
        print_json(command.to_json(findings))
    else:
        command.show(findings)
    raise typer.Exit(EXIT_FAILED if command.is_hurting(findings) else 0)


def _timing(*, as_json: bool, scans: int, root: str, is_agent_here: bool) -> None:
    from chipmedic.host import LinuxHost
    from chipmedic_cli import timing as command
    from chipmedic_cli.client import UsageWrong

    if not Path(root).is_dir():
        raise UsageWrong(f"--root {root}: there is no such folder")
    costs = command.measure(LinuxHost(root), scans=scans, is_agent_here=is_agent_here)
    if as_json:
        print_json(command.to_json(costs))
    else:
        command.show(costs)


@app.command()
def inject(
    fault: Annotated[str, typer.Argument(help="Which fault; --list names them.")] = "",
    state: Annotated[
        Path | None,
        typer.Option(envvar="CHIPMEDIC_DEMO_STATE", help="Folder of a demo kept with --keep."),
    ] = None,
    node: Annotated[str, typer.Option(help="The simulated node.")] = "",
    chip: Annotated[int, typer.Option(help="Index of the chip.")] = 0,
    show_list: Annotated[bool, typer.Option("--list", help="Name the faults.")] = False,
) -> None:
    """Break a simulated chip or job, to see what chipmedic does."""
    from chipmedic_cli import inject as command

    command.run(fault, state=state, node=node, chip=chip, show_list=show_list)


@app.command()
def beat(
    step: Annotated[int | None, typer.Option(help="The step that was just finished.")] = None,
    phase: Annotated[str | None, typer.Option(help="init, train, checkpoint, evaluate.")] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the last checkpoint.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the speaker; default: $RANK.")] = None,
    job: Annotated[str | None, typer.Option(help="Job; default: Slurm's or torchrun's.")] = None,
    log: Annotated[str | None, typer.Option(help="A file whose growth is progress.")] = None,
) -> None:
    """Tell the agent that a job moves, from a shell script."""
    from chipmedic_cli import beat as command

    command.run(step=step, phase=phase, checkpoint=checkpoint, rank=rank, job=job, log=log)


def run() -> None:
    """Run the command line; the one place where an error becomes a line and an exit code."""
    try:
        app()
    except ConfigError as e:
        sys.stderr.write(f"{told('chipmedic', e)}\n")
        sys.exit(EXIT_USAGE)
    except ChipmedicError as e:
        sys.stderr.write(f"{told('chipmedic', e)}\n")
        sys.exit(getattr(e, "exit_code", EXIT_FAILED))
    except BrokenPipeError:  # `| head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
