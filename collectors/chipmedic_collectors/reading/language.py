"""How one vendor's tool speaks: its layouts, its marks and its complaints, made a `ToolReader`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chipmedic.tool_report import Problem, ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.repeats import merge_repeats
from chipmedic_collectors.tool_failures import ended_early, shell_failure, tells_tool_missing

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00\ufeff]")
_WORDS_MAX = 200
_VERSION_WORDS = ("-v", "-V", "--version", "version")

Sentence = tuple[ProblemKind, re.Pattern[str]]


def sentence(kind: ProblemKind, pattern: str) -> Sentence:
    """Return what a line that fits the pattern complains of."""
    return kind, re.compile(pattern, re.IGNORECASE)


_SENTENCES: tuple[Sentence, ...] = (
    sentence(ProblemKind.PERMISSION, r"insufficient permission|permission denied"),
    sentence(ProblemKind.PERMISSION, r"operation not permitted|root (?:user|privilege)|as root\b"),
    sentence(
        ProblemKind.NO_DEVICES,
        r"\bno (?:\w+ ){0,3}(?:devices?|cards?|[gxm]pus?|aips?)"
        r"(?: (?:was|were|is|are))?(?: (?:found|discovered|detected|available|attached)|\W*$)",
    ),
    sentence(ProblemKind.CHIP_LOST, r"is lost\b|fallen off the bus"),
    sentence(
        ProblemKind.CHIP_LOST, r"(?:invalid|no such) device|device (?:id |\d+ )?(?:was )?not found"
    ),
    sentence(
        ProblemKind.DRIVER_DOWN,
        r"(?:couldn.t|cannot|can not|can't|unable to|fail(?:ed|ure)? to) "
        r"(?:communicate|init\w*|load|open|connect|find)\b"
        r"|driver (?:is |was )?(?:not|isn.t) (?:loaded|installed|running)"
        r"|initiali[sz]ation (?:error|fail)|init\w* failed|mismatch",
    ),
    sentence(
        ProblemKind.UNSUPPORTED,
        r"(?:unknown|unrecogni[sz]ed|invalid|illegal|unexpected) "
        r"(?:option|argument|command|subcommand|parameter|field|query)"
        r"|not (?:a valid|supported|recogni[sz]ed|implemented)\b|unsupported"
        r"|(?:was|were) not expected",
    ),
)
"""What tools of any maker say; a vendor's own sentences come first."""
_INSTEAD = frozenset(
    {
        ProblemKind.DRIVER_DOWN,
        ProblemKind.NO_DEVICES,
        ProblemKind.PERMISSION,
        ProblemKind.UNSUPPORTED,
    }
)
"""A tool that says so has not answered in the wrong form: it has not answered."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One form of answer."""

    fits: Callable[[str, CommandLine], bool]
    read: Callable[[str, CommandLine, ToolReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One vendor's tools."""

    vendor: str
    tools: frozenset[str]
    mark: re.Pattern[str]
    """What only this vendor prints."""
    layouts: tuple[Layout, ...]
    """The first that fits reads the answer."""
    sentences: tuple[Sentence, ...] = ()
    version: re.Pattern[str] | None = None
    """The answer to a question for the version; its first group is the tool's."""
    is_ours: Callable[[CommandLine], bool] = lambda command: True
    """Where another vendor's tool has the same name: whether these arguments are of this one."""

    def reader(self) -> ToolReader:
        """Return the reader to publish as an entry point."""
        return ToolReader(self.vendor, self.recognises, self.read)

    def recognises(self, run: ToolRun) -> int:
        """See `ToolReader.recognises`."""
        if self.mark.search(run.stdout) or self.mark.search(run.stderr):
            return 3
        command = CommandLine.of(run.argv, self.tools)
        if command.tool is None or not self.is_ours(command):
            return 0
        return 2 if run.stdout.strip() else 1

    def read(self, run: ToolRun) -> ToolReport:
        """See `ToolReader.read`."""
        report = ToolReport(vendor=self.vendor)
        command = CommandLine.of(run.argv, self.tools)
        answer, complaints, doubtful = self._split(_ESCAPES.sub("", run.stdout))
        complaints += self._split(_ESCAPES.sub("", run.stderr))[1]
        layout = next((one for one in self.layouts if one.fits(answer, command)), None)
        if layout is not None:
            layout.read(answer, command, report)
            merge_repeats(report)
        elif self.version is not None and command.has(*_VERSION_WORDS):
            found = self.version.search(answer)
            report.tool_version = found[1] if found else None
        told = complaints if report.chips else complaints + doubtful
        if not report.chips and any(problem.kind in _INSTEAD for problem in told):
            report.problems = [p for p in report.problems if p.kind is not ProblemKind.MALFORMED]
        for problem in told:
            report.add_problem(problem.kind, problem.message)
        _note_shell(run, report)
        _note_exit(run, report)
        if not (report.chips or report.problems or report.tool_version or report.driver_version):
            _note_nothing(answer, report)
        return report

    def _split(self, text: str) -> tuple[str, list[Problem], list[Problem]]:
        """Part a text into the answer, the complaints, and lines that may be either.

        Those stay in the answer; where it names no chip, they were complaints.
        """
        answer, complaints, doubtful = [], [], []
        for line in text.splitlines():
            problem = self._complaint(line.strip())
            if problem is not None and not _is_value(line):
                complaints.append(problem)
                continue
            if tells_tool_missing(line):
                continue
            answer.append(line)
            if problem is not None:
                doubtful.append(problem)
        end = "\n" if text.endswith("\n") else ""  # whether the last line is whole
        return "\n".join(answer) + end, complaints, doubtful

    def _complaint(self, line: str) -> Problem | None:
        """Return what a line outside of tables and markup complains of; not a shell's line.

        What a shell or a loader says is judged by `shell_failure`, which knows them better.
        """
        if not line or line[0] in '|+<{}[]"' or shell_failure(ToolRun((), "", line)) is not None:
            return None
        for kind, words in (*self.sentences, *_SENTENCES):
            if words.search(line):
                return Problem(kind, line[:_WORDS_MAX])
        return None


def _is_value(line: str) -> bool:
    """`ECC Mode : Not Supported` may be a value, and so may a line of CSV or a numbered row."""
    return bool(re.search(r"\s:\s|,.*,|\[[^\]]*\]|^\s*\d{1,4}\s{2,}\S", line))


def _note_shell(run: ToolRun, report: ToolReport) -> None:
    """Note that the tool did not run, or was ended; beside an answer only its exit status tells."""
    told = run if not report.chips else ToolRun(run.argv, "", "", run.exit_code)
    failure = shell_failure(told) if not report.problems else None
    if report.chips:
        failure = failure or ended_early(run.exit_code)
    if failure:
        report.add_problem(failure.kind, failure.message)


def _note_exit(run: ToolRun, report: ToolReport) -> None:
    if run.exit_code and not report.problems:
        kind = ProblemKind.PARTIAL if report.chips else ProblemKind.MALFORMED
        report.add_problem(kind, f"exit status {run.exit_code} without a reason")


def _note_nothing(text: str, report: ToolReport) -> None:
    first = next((line.strip() for line in text.splitlines() if line.strip()), None)
    words = "the tool printed nothing" if first is None else f"no chip can be read from: {first}"
    report.add_problem(ProblemKind.MALFORMED, words[:_WORDS_MAX])
