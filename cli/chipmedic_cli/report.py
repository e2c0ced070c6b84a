"""`chipmedic report`: where the time of a job, or of all jobs, went."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client, named
from chipmedic_cli.options import JsonOption, WatchdogOption, print_json
from chipmedic_cli.status import table
from chipmedic_cli.words import age, plain

LANGUAGES = ("en", "zh")
DEFAULT_SINCE = "30d"


class WrongOption(ChipmedicError):
    """An option's value is none that the command takes."""

    exit_code = 2


_UNITS = {"min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_SINCE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(min|h|d|w)", re.ASCII)


def report(
    watchdog: WatchdogOption,
    job: Annotated[str, typer.Option("--job", help="One job (slurm:1234) instead of all.")] = "",
    since: Annotated[
        str, typer.Option("--since", help="Jobs that moved in this time: 12h, 30d, 4w.")
    ] = "",
    language: Annotated[str, typer.Option(help="Of a report: en or zh.")] = "en",
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one page with a timeline to this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the time went: new steps, and each lost second with its incident."""
    if html is not None and as_json:
        raise WrongOption("--html does not go with --json: ask twice")
    if job and since:
        raise WrongOption("--since does not go with --job: a job is shown with its whole life")
    if language not in LANGUAGES:
        raise WrongOption(f"--language {language}: allowed are {', '.join(LANGUAGES)}")
    with Client(watchdog) as client:
        if html is not None:
            which = {"job": job} if job else {"since": str(time.time() - seconds_of(since))}
            write_page(html, client.text("/report", language=language, **which))
            return
        if job:
            answer = client.get(f"/api/v1/jobs/{named('job', job)}/ledger", language=language)
        else:
            answer = client.get("/api/v1/report", since=str(time.time() - seconds_of(since)))
    if as_json:
        print_json(answer)
    elif job:
        show_job(answer)
    else:
        show_all(answer)


def write_page(path: Path, text: str) -> None:
    """Write the page and say so.

    Raises:
        ChipmedicError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise ChipmedicError(f"--html {path}: {e.strerror or e}") from e
    Console(highlight=False, soft_wrap=True).print(f"written: {path}", markup=False)


def seconds_of(since: str, option: str = "--since") -> float:
    """Return how long a stretch of time is: `90min`, `12h`, `30d`, `4w`.

    Raises:
        WrongOption: it is none.
    """
    match = _SINCE.fullmatch(since or DEFAULT_SINCE)
    if match is None:
        raise WrongOption(f"{option} {since}: not a time like 90min, 12h, 30d or 4w")
    return float(match[1]) * _UNITS[match[2]]


def show_job(answer: dict[str, Any], console: Console | None = None) -> None:
    """Print the account of one job, as the watchdog words it."""
    console = console or Console(highlight=False, soft_wrap=True)
    for line in answer["text"].splitlines():
        console.print(plain(line))


def show_all(answer: dict[str, Any], console: Console | None = None) -> None:
    """Print the sum of all jobs, then each of them, the worst first."""
    console = console or Console(highlight=False)
    if not answer["jobs"] and not answer["jobs_not_listed"]:
        console.print("no job has told a step in this time (jobs tell theirs with chipmedic.beat)")
        return
    if answer["effective_ratio"] is not None:
        console.print(
            f"{share(answer['effective_ratio'])} of {hours(answer['wall_seconds'])} made new "
            f"steps; {hours(answer['lost_seconds'])} lost to {_count(answer['causes'])}"
        )
        console.print(_sums(answer))
        if answer["causes"]:
            console.print(_causes(answer))
        if len(answer["vendors"]) > 1:
            console.print(_vendors(answer["vendors"]))
    console.print(_jobs(answer["jobs"]))
    if more := answer["jobs_not_listed"]:
        console.print(f"jobs that are in the sums and not in this list: {more}")
    if mute := answer["jobs_without_steps"]:
        console.print(f"of these jobs tell no steps, so that what they made is unknown: {mute}")


def _count(causes: list[dict[str, Any]]) -> str:
    count = sum(cause["interruptions"] for cause in causes)
    return f"{count} interruption{'' if count == 1 else 's'}"


def _sums(answer: dict[str, Any]) -> Table:
    made = table("WHERE", "TIME", "SHARE")
    for phase, seconds in answer["seconds"].items():
        if seconds > 0:
            made.add_row(phase, hours(seconds), share(seconds / answer["wall_seconds"]))
    return made


def _causes(answer: dict[str, Any]) -> Table:
    made = table("LOST TO", "TIMES", "TIME", "EACH", "SHARE", "MOST OF IT")
    for cause in answer["causes"]:
        worst = max(cause["seconds"], key=lambda phase: float(cause["seconds"][phase]))
        made.add_row(
            plain(cause["cause"]),
            str(cause["interruptions"]),
            hours(cause["lost_seconds"]),
            hours(cause["lost_seconds"] / max(1, cause["interruptions"])),
            share(cause["lost_seconds"] / answer["wall_seconds"]),
            worst,
        )
    return made


def _vendors(vendors: list[dict[str, Any]]) -> Table:
    made = table("CHIPS OF", "JOBS", "TIME", "EFFECTIVE", "LOST")
    for one in vendors:
        ratio = one["effective_ratio"]
        made.add_row(
            plain(one["vendor"]),
            str(one["jobs"]),
            hours(one["wall_seconds"]),
            "unknown" if ratio is None else share(ratio),
            hours(one["lost_seconds"]),
        )
    return made


def _jobs(jobs: list[dict[str, Any]]) -> Table:
    made = table("JOB", "STATE", "TIME", "EFFECTIVE", "STARTS", "LOST", "LONGEST LOSS", "ENDED")
    ordered = sorted(jobs, key=lambda job: (job["effective_ratio"] is None, job["effective_ratio"]))
    for job in ordered:
        longest = max(job["losses"], key=lambda loss: float(loss["seconds"]), default=None)
        ratio = job["effective_ratio"]
        made.add_row(
            plain(job["job"]),
            "ended" if job["is_over"] else "running",
            hours(job["wall_seconds"]),
            "unknown" if ratio is None else share(ratio),
            str(job["starts"]),
            hours(job["lost_seconds"]),
            plain(_longest(longest)),
            f"{age(job['end_at'])} ago" if job["is_over"] else "-",
        )
    return made


def _longest(loss: dict[str, Any] | None) -> str:
    if loss is None:
        return "-"
    worst = max(loss["stages"], key=lambda stage: float(stage["seconds"]))
    return f"{hours(loss['seconds'])}, {worst['phase']}, {loss['incident'] or 'no incident'}"


def hours(seconds: float) -> str:
    """Return a duration in one unit that a person can compare: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def share(ratio: float) -> str:
    """Return a share in percent; it is cut, not rounded, so that 100 means all."""
    return f"{int(ratio * 10_000) / 100:.2f} %"
