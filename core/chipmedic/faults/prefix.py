"""Take the prefix off a log line: what the loggers added in front of the kernel's own words.

One line may wear several prefixes at once (a syslog stamp, a host name, `kernel:`, an uptime, a
caller tag), so they are peeled one after another until nothing known is left. What is peeled is
kept where it means something: the uptime, the priority, the host, the program that wrote,
rsyslog's repeat count.

Forms, each seen in the field: `/dev/kmsg` records, `<4>`, `dmesg` with seconds, dates and deltas,
caller tags, `dmesg -x` and `--time-format iso`, syslog with and without year or host, localised
months, RFC 5424, `date|level|kernel[-]|`, Ascend's `[EVENT] KERNEL(pid,sklogd):...`, container
runtimes, `pdsh`, `grep`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(slots=True)
class Stripped:
    """A line without its prefix, and what the prefix said."""

    text: str
    """The words themselves."""
    uptime_seconds: float | None = None
    """Since boot, where the prefix has it."""
    priority: int | None = None
    """Syslog priority: facility times 8 plus level."""
    sequence: int | None = None
    """Of a raw `/dev/kmsg` record."""
    host: str | None = None
    program: str | None = None
    """The tag of a syslog line (`kernel`, `systemd-networkd`); None where there is none."""
    stamp: str = ""
    """The date as printed, where there is one."""
    count: int = 1
    """How often rsyslog says that the line was repeated."""


REPEAT_MAX = 1_000_000
PIECES_MAX = 12

_MONTH = (
    r"(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z.]*|\d{1,2}月|[^\W\d_]{3,5}\.?)"
)
_CLOCK = r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?"
_ZONE = r"(?:Z| ?(?:[A-Z]{3,5}(?= )|[+-]\d{2}:?\d{2}))?"
_WORD = r"[A-Za-z0-9_][\w.-]*"

_KMSG = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20}),[^,;\s]{1,3}(?:,[^;]*)?;")
_FILE = re.compile(r"(?:/[\w.+-]+)+(?::\d+)?:(?=[\[<\w])")
_UPTIME = r"\[ *\d+\.\d{3,6}\]"

_PIECES = tuple(
    re.compile(form)
    for form in (
        r"\x1b\[[\d;]*m",
        r"<(?P<priority>\d{1,4})>(?:1 )?",
        r"\[ *(?P<uptime>\d{1,12}\.\d{3,6})\]",
        r"\[ *\+ *\d+\.\d+\]|\[ *< *\d+\.\d+>\]",
        r"\[ *[TC]\d+\]",
        rf"\[(?P<date>[^\]\[]{{0,12}}?{_MONTH} +\d+ (?:\d{{4}} )?{_CLOCK}(?: \d{{4}})?)\]",
        rf"\[(?P<day>{_MONTH}\d{{1,2}} \d{{2}}:\d{{2}})\]",
        rf"\[(?P<iso_date>\d{{4}}-\d{{2}}-\d{{2}}[T -]{_CLOCK}[^\]]{{0,10}})\]",
        rf"(?P<container>\d{{4}}-\d{{2}}-\d{{2}}T{_CLOCK}{_ZONE}) std(?:out|err) [FP](?= )",
        rf"(?:[A-Z][a-z]{{2}} )?(?P<iso>\d{{4}}-\d{{2}}-\d{{2}}[T ]{_CLOCK}{_ZONE})(?=[\s|:])",
        r"(?P<unix>1\d{9}\.\d{6})(?= )",
        rf"(?P<syslog>{_MONTH} +\d{{1,2}} (?:\d{{4}} )?{_CLOCK})(?= )",
        rf"(?P<clock>{_CLOCK})(?= )",
        r"[a-z]+\d? *: *(?:emerg|alert|crit|err|warn|notice|info|debug) *:",
        r"\|\w+\|(?P<bar_program>[\w-]+)\[[\d-]*\]\|",
        r"\[[A-Z]+\] KERNEL\([^)]*\):[\d:.-]+ \[klogd\.c:\d+\]",
        rf"(?P<pdsh>{_WORD}): +(?={_UPTIME}|<\d+>|\[\w{{3}} \w{{3}} )",
        r"message repeated (?P<count>\d+) times: \[ *",
        rf"(?P<rfc_host>{_WORD}) (?P<rfc_program>{_WORD}) (?:-|\d+) \S+ - ",
        rf"(?:(?P<host>{_WORD}) )?(?P<program>[A-Za-z_(][\w./@()-]*)(?P<pid>\[[\d-]*\])?:",
    )
)


def strip_prefix(line: str) -> Stripped:
    """Return the words of a line and what its prefix said; any text is a valid line."""
    line = line.rstrip()
    answer = Stripped(text=line)
    at = 0
    if record := _KMSG.match(line):
        answer.priority, answer.sequence = int(record[1]), int(record[2])
        answer.uptime_seconds = int(record[3]) / 1e6
        at = record.end()
    elif name := _FILE.match(line):
        at = name.end()
    for _ in range(PIECES_MAX):
        end = _peel(line, at, answer)
        if end is None:
            break
        at = end
    answer.text = line[at:].strip()
    if answer.count > 1:
        answer.text = answer.text.removesuffix("]")
    return answer


def _peel(line: str, at: int, answer: Stripped) -> int | None:
    """Note what the piece at `at` says; return where it ends, None when no piece begins there."""
    while at < len(line) and line[at] in " \t":
        at += 1
    for form in _PIECES:
        piece = form.match(line, at)
        if piece is not None and _take(piece.groupdict(), answer):
            return piece.end()
    return None


def _take(found: dict[str, str | None], answer: Stripped) -> bool:
    """Note what a piece says; False when it is no prefix after all."""
    match found:
        case {"priority": str(number)}:
            answer.priority = int(number)
        case {"uptime": str(seconds)}:
            answer.uptime_seconds = float(seconds)
        case {"count": str(times)}:
            answer.count = max(1, int(times)) if len(times) < 7 else REPEAT_MAX
        case {"pdsh": str(host)}:
            if answer.host or answer.program:
                return False
            answer.host = host
        case {"bar_program": str(program)}:
            answer.program = program
        case {"rfc_host": str(host), "rfc_program": str(program)}:
            if not answer.stamp or answer.program:
                return False
            answer.host, answer.program = host, program
        case {"program": str(program), "host": host, "pid": pid}:
            return _take_tag(program, host, pid, answer)
        case (
            {"date": str(stamp)}
            | {"iso_date": str(stamp)}
            | {"clock": str(stamp)}
            | {"day": str(stamp)}
            | {"container": str(stamp)}
        ):
            answer.stamp = answer.stamp or f"[{stamp}]"
        case {"iso": str(stamp)} | {"syslog": str(stamp)} | {"unix": str(stamp)}:
            answer.stamp = answer.stamp or stamp
        case _:
            pass
    return True


def _take_tag(program: str, host: str | None, pid: str | None, answer: Stripped) -> bool:
    """Note the tag of a syslog line.

    `nvme0n1: I/O error`, `nvme nvme4: I/O` and `watchdog: BUG` begin like a tag and are the
    kernel's own words, so a tag other than `kernel` counts only behind a syslog stamp, and before
    any uptime.
    """
    is_kernel = program == "kernel" and host is not None  # `journalctl -o short-monotonic`
    if answer.program is not None or (answer.uptime_seconds is not None and not is_kernel):
        return False
    is_behind_stamp = bool(answer.stamp) and answer.stamp[0] != "[" and "," not in answer.stamp
    if program != "kernel" and not (is_behind_stamp and (host or pid)):
        return False
    answer.host = answer.host or host
    answer.program = program
    return True
