"""How one vendor's tool speaks: its layouts, its marks and its complaints, made a `ToolReader`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.tool_failures import shell_failure

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00\ufeff]")
_WORDS_MAX = 200

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
        ProblemKind.CHIP_LOST, r"(?:invalid|no such) device|device (?:id )?(?:was )?not found"
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
        r"|were not expected",
    ),
)
"""What tools of any maker say; a vendor's own sentences come first."""


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
        text = _ESCAPES.sub("", run.stdout)
        layout = next((one for one in self.layouts if one.fits(text, command)), None)
        if layout is not None:
            layout.read(text, command, report)
        elif self.version is not None and (found := self.version.search(text)):
            report.tool_version = found[1]
        self._note_complaints(text, report)
        self._note_complaints(_ESCAPES.sub("", run.stderr), report)
        _note_shell(run, report)
        _note_exit(run, report)
        if not (report.chips or report.problems or report.tool_version or report.driver_version):
            _note_nothing(text, report)
        return report

    def _note_complaints(self, text: str, report: ToolReport) -> None:
        """Find the sentences that stand outside of tables, pairs and markup."""
        for line in map(str.strip, text.splitlines()):
            if not line or line[0] in '|+<{}[]"' or _is_loader_line(line):
                continue
            kind = next(
                (k for k, words in (*self.sentences, *_SENTENCES) if words.search(line)), None
            )
            if kind is not None and not (report.chips and _is_value(line)):
                report.add_problem(kind, line[:_WORDS_MAX])


def _is_value(line: str) -> bool:
    """`ECC Mode : Not Supported` between a chip's values is a value, as is a cell of CSV."""
    return re.search(r"\s:\s", line) is not None or line.count(",") > 1


def _is_loader_line(line: str) -> bool:
    """What a shell or a loader says is judged by `shell_failure`, which knows them better."""
    return shell_failure(ToolRun((), "", line)) is not None


def _note_shell(run: ToolRun, report: ToolReport) -> None:
    """Note that the tool did not run, or was ended; beside an answer only its exit status tells."""
    told = run if not report.chips else ToolRun(run.argv, "", "", run.exit_code)
    if not report.problems and (failure := shell_failure(told)):
        report.add_problem(failure.kind, failure.message)


def _note_exit(run: ToolRun, report: ToolReport) -> None:
    if run.exit_code and not report.problems:
        kind = ProblemKind.PARTIAL if report.chips else ProblemKind.MALFORMED
        report.add_problem(kind, f"exit status {run.exit_code} without a reason")


def _note_nothing(text: str, report: ToolReport) -> None:
    first = next((line.strip() for line in text.splitlines() if line.strip()), None)
    words = "the tool printed nothing" if first is None else f"no chip can be read from: {first}"
    report.add_problem(ProblemKind.MALFORMED, words[:_WORDS_MAX])
