"""The notice as a person reads it: pure functions from facts and words to title and body.

Every section is a function that returns its lines; the body is their list. Evidence and names come
from machines that may be compromised: nothing of them but printable characters is passed on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from chipmedic.faults.nvlink5 import described
from chipmedic_watchdog.notify.facts import FaultFacts, IncidentFacts, JobFacts
from chipmedic_watchdog.notify.next_step import next_lines, stop_lines
from chipmedic_watchdog.notify.places import node_of, place, vendor_of, where
from chipmedic_watchdog.notify.words import Words, causes, command

EVIDENCE_LINES = 8
EVIDENCE_LETTERS = 240
FAULTS_SHOWN = 6
JOBS_SHOWN = 5
LATE_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Text:
    """Title and body of one notice."""

    title: str
    body: str


def write(
    facts: IncidentFacts,
    occasion: str,
    words: Words,
    *,
    now: float,
    links: Mapping[str, str] | None = None,
    grouped: str = "",
) -> Text:
    """Write the notice of an occasion; `now` is when it is written, for the ages in it.

    `grouped` is what the rule of correlation says of why these faults are one incident.
    """
    is_return = facts.recovery is not None and facts.recovery.is_return
    is_about_return = is_return and occasion in words.table["return_occasion"]
    title = words.say(
        "return_occasion" if is_about_return else "occasion",
        occasion,
        severity=words.say("severity", facts.severity.name.lower()),
        what=words.kind(facts.kind),
        where=where(facts, words, is_short=True),
        nodes=_returning(facts, words),
        count=facts.reopened_count,
        age=age(now - facts.fault_at, words),
    )
    sections = [
        ("what", [_what(facts, words)]),
        ("where", [where(facts, words)]),
        ("since", [_since(facts, words, now)]),
        ("ended", _ended(facts, words)),
        ("jobs", _jobs(facts, words)),
        ("late", _late(facts, words)),
        ("also", _also(facts, words)),
        ("grouped", [grouped] if grouped else []),
        ("evidence", _evidence(facts, words)),
        ("cause", _causes(facts, words)),
        ("first", _first(facts, words)),
        ("hint", _hint(facts, words)),
        ("next", next_lines(facts, words)),
        ("stop", stop_lines(facts, words)),
        *((act, [url]) for act, url in (links or {}).items()),
        ("show", [f"chipmedic incidents show {facts.id}"]),
    ]
    if occasion == "resolved" or is_about_return:
        kept = ("what", "where", "since", "ended", "jobs", "next", "approve", "show")
        sections = [section for section in sections if section[0] in kept]
    lines = [line for key, content in sections for line in _section(key, content, words)]
    title = printable(f"{title} [{facts.id}]")
    return Text(title=title, body="\n".join(printable(line) for line in lines))


def age(seconds: float, words: Words) -> str:
    """Return a duration in words: `4 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for key, unit_seconds, form in (("seconds", 1, "{:.0f}"), ("minutes", 60, "{:.0f}")):
        if seconds < unit_seconds * 120:
            return words.say("age", key, value=form.format(max(seconds, 0.0) / unit_seconds))
    if seconds < 48 * 3600:
        return words.say("age", "hours", value=f"{seconds / 3600:.1f}")
    return words.say("age", "days", value=f"{seconds / 86400:.1f}")


def clean(line: str) -> str:
    """Return evidence as one printable line of bounded length."""
    text = printable(line).strip()
    return text if len(text) <= EVIDENCE_LETTERS else f"{text[: EVIDENCE_LETTERS - 1]}…"


def printable(line: str) -> str:
    """Return the line without anything that moves a cursor, hides text or begins a new line."""
    return "".join(letter if letter.isprintable() else " " for letter in line)


def moment(at: float) -> str:
    """Return UTC to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _returning(facts: IncidentFacts, words: Words) -> str:
    nodes = facts.recovery.evidence.get("nodes", ()) if facts.recovery else ()
    return words.join([clean(str(node)) for node in nodes], "comma")


def _section(key: str, content: list[str], words: Words) -> list[str]:
    """Put a label before the first line; further lines are indented below it."""
    if not content:
        return []
    label = words.table["labels"][key] + words.table["marks"]["colon"]
    if len(content) == 1 and key != "evidence":
        return [f"{label}{content[0]}"]
    return [label.rstrip(), *(f"  {line}" for line in content)]


def _what(facts: IncidentFacts, words: Words) -> str:
    kind = words.kind(facts.kind)
    said = clean(facts.root.summary if facts.root else facts.title)
    return f"{kind}{words.aside(said)}" if said else kind


def _since(facts: IncidentFacts, words: Words, now: float) -> str:
    seconds = now - facts.fault_at
    return words.say("sentences", "ago", time=moment(facts.fault_at), age=age(seconds, words))


def _ended(facts: IncidentFacts, words: Words) -> list[str]:
    if facts.state != "resolved" or facts.resolved_at is None:
        return []
    lasted = age(facts.resolved_at - facts.fault_at, words)
    said = words.say("sentences", "lasted", time=moment(facts.resolved_at), age=lasted)
    asides = [clean(facts.resolve_reason)] if facts.resolve_reason else []
    if facts.resolved_by:
        asides.append(words.say("sentences", "resolved_by", who=clean(facts.resolved_by)))
    return [said + (words.aside(words.join(asides)) if asides else "")]


def _jobs(facts: IncidentFacts, words: Words) -> list[str]:
    if not facts.jobs:
        return [words.say("sentences", "no_jobs")]
    lines = [_job(job, words) for job in facts.jobs[:JOBS_SHOWN]]
    return lines + _rest(len(facts.jobs) - JOBS_SHOWN, words)


def _job(job: JobFacts, words: Words) -> str:
    aside = " ".join(clean(text) for text in (job.known_as, job.name, job.user) if text)
    parts = [clean(job.job) + (words.aside(aside) if aside else "")]
    if job.node_count:
        parts.append(words.say("sentences", "job_nodes", count=job.node_count))
    for node, ranks in sorted(job.ranks.items()):
        key = "job_rank" if len(ranks) == 1 else "job_ranks"
        parts.append(words.say("sentences", key, ranks=spans(ranks), node=node))
    if job.step is not None:
        parts.append(words.say("sentences", "job_step", step=job.step))
    if job.checkpoint_step is not None:
        parts.append(words.say("sentences", "job_checkpoint", step=job.checkpoint_step))
    return words.join(parts, "comma")


def spans(numbers: tuple[int, ...]) -> str:
    """Write numbers shortly: `0-7,9`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)


def _late(facts: IncidentFacts, words: Words) -> list[str]:
    """Return which ranks did not arrive, and where they are."""
    late = [one for job in facts.jobs for one in job.late]
    lines = [
        words.say(
            "sentences",
            "gone_ranks" if one.is_gone else "late_ranks",
            ranks=spans(one.ranks),
            node=one.node,
            step=one.step,
            furthest=one.furthest,
        )
        for one in late[:LATE_SHOWN]
    ]
    return lines + _rest(len(late) - LATE_SHOWN, words)


def _also(facts: IncidentFacts, words: Words) -> list[str]:
    others = facts.faults[1:]
    lines = [f"{words.kind(f.kind)} {place(f, words)}" for f in others[:FAULTS_SHOWN]]
    return lines + _rest(len(others) - FAULTS_SHOWN, words)


def _rest(count: int, words: Words) -> list[str]:
    return [words.say("marks", "cut", count=count)] if count > 0 else []


def _evidence(facts: IncidentFacts, words: Words) -> list[str]:
    lines = list(dict.fromkeys(clean(line) for fault in facts.faults for line in fault.evidence))
    lines = [line for line in lines if line]
    if not lines:
        return [words.say("sentences", "no_evidence")]
    return lines[:EVIDENCE_LINES] + _rest(len(lines) - EVIDENCE_LINES, words)


def _causes(facts: IncidentFacts, words: Words) -> list[str]:
    found = causes(facts.cause, facts.kind, words.language)
    if not found:
        return [words.say("sentences", "unknown_cause")]
    colon = words.table["marks"]["colon"]
    return [f"{words.say('confidence', sure)}{colon}{text}" for sure, text in found]


def _first(facts: IncidentFacts, words: Words) -> list[str]:
    root = facts.root
    node = node_of(facts)
    chip = root.chip if root else None
    device, _, port = (root.component if root else "").partition(":")[2].partition("/")
    is_nic = root is not None and root.component.startswith("nic:")
    jobs = (job for job in facts.jobs if job.job.startswith("slurm:"))
    slurm = next((job.known_as or job.job.partition(":")[2] for job in jobs), None)
    pids = [pid for job in facts.jobs for pid in job.pids.get(node, ())]
    found = command(
        vendor_of(facts),
        facts.kind,
        {
            "node": node,
            "index": None if chip is None else chip.index,
            "die": None if chip is None else chip.die,
            "pci": None if chip is None else chip.pci,
            "device": device if is_nic else None,
            "port": port if is_nic else None,
            "pid": pids[0] if pids else None,
            "slurm_job": slurm,
        },
    )
    if found is None:
        return []
    if found.is_local or not node:
        return [found.text]
    return [words.say("sentences", "first_on", node=node, command=found.text)]


def _hint(facts: IncidentFacts, words: Words) -> list[str]:
    """Return what the catalog says about the root's first code, with its name."""
    root: FaultFacts | None = facts.root
    if root is None or not root.codes:
        return []
    row = described(root.codes[0], *root.evidence)
    hint = row.hint_zh if words.language.value == "zh" else row.hint
    return [f"{row.code} {row.name}{words.table['marks']['colon']}{hint}"]
