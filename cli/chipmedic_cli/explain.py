"""`chipmedic explain`: what a pasted log means, on one screen, or each line by itself as JSON."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, TextIO

from chipmedic.faults.causes import Cause, Place, Sighting
from chipmedic.faults.explain import Report, explain_stream
from chipmedic.faults.finding import Finding
from chipmedic.faults.kernel_lines import read_line, read_lines
from chipmedic.tool_report import to_json
from chipmedic_cli import explain_tool
from chipmedic_cli.client import UsageWrong
from chipmedic_cli.explain_texts import ACTIONS, KINDS_ZH, LANGUAGES, SEVERITIES, TEXTS
from chipmedic_cli.log_source import opened

CAUSES_SHOWN = 3
"""More causes are named in one line; a screen has room for three with their first steps."""
NAMES_SHOWN = 4
EVIDENCE_WIDTH = 160
WIDTH = 100
HERE = Place("", "")
"""The place of what stands beside its cause: it needs no name again."""
_STICKY = "，。；：、）！？"
"""No line begins with one of these."""


def run(file: str, *, as_json: bool, independent: bool, language: str) -> None:
    """Explain a file, or standard input for `-`, to standard output.

    Raises:
        ChipmedicError: the file cannot be read, or the language is not one of ours.
    """
    if language not in LANGUAGES:
        raise UsageWrong(f"--language {language}: there are {' and '.join(LANGUAGES)}")
    with opened(file) as stream:
        if independent:
            _write_lines(stream, sys.stdout)
            return
        text, stream = explain_tool.split_head(stream)
        report = explain_stream(stream)
    is_known = bool(report.causes or report.symptoms)
    tool = None if is_known or text is None else explain_tool.read_tool_output(text)
    if as_json:
        answer = report_to_json(report, language)
        if tool is not None:
            answer["tool"] = to_json(tool)
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    elif tool is not None:
        sys.stdout.write("\n".join(explain_tool.render(tool, language)) + "\n")
    else:
        sys.stdout.write("\n".join(render(report, language)) + "\n")


def _write_lines(stream: BinaryIO, out: TextIO) -> None:
    """Write the independent answer line by line: a log of any size fits in memory."""
    separator = "["
    for number, raw in enumerate(read_lines(stream), 1):
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        entry = {"line": number, "findings": [_to_json(f) for f in read_line(line)]}
        out.write(separator + json.dumps(entry, ensure_ascii=False))
        separator = ",\n "
    out.write("[]\n" if separator == "[" else "]\n")


def explain_lines_independent(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return what each line means by itself: no line influences another."""
    return [
        {"line": number, "findings": [_to_json(finding) for finding in read_line(line)]}
        for number, line in enumerate(lines, 1)
    ]


def explain_text(source: str | BinaryIO) -> Report:
    """Return the meaning of a log that is given as text or as a stream of bytes."""
    stream = io.BytesIO(source.encode()) if isinstance(source, str) else source
    return explain_stream(stream)


def _to_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity.name.lower(),
        "action": finding.action.value,
        "code": finding.code,
        "vendor": finding.vendor,
        "pci": finding.pci,
        "device": finding.device,
        "count": finding.count,
        "message": finding.message,
        "hint": finding.hint,
    }


def report_to_json(report: Report, language: str) -> dict[str, Any]:
    """Return the report for programs; the hints are in the language that was asked for."""
    return {
        "lines": report.lines,
        "causes": [
            {
                "host": cause.place.host or None,
                "part": cause.place.name or None,
                "uuid": cause.place.uuid,
                "kind": cause.root.finding.kind,
                "severity": cause.severity.name.lower(),
                "action": cause.action.value,
                "first_step": _hint(cause.root, language),
                **_sighting_to_json(cause.root),
                "also": [_sighting_to_json(sighting) for sighting in cause.also],
                "follows": [_sighting_to_json(sighting) for _, sighting in cause.echoes],
                "same_on": [place.name for place in cause.other_places],
            }
            for cause in report.causes
        ],
        "symptoms": [_sighting_to_json(sighting) for _, sighting in report.symptoms],
    }


def _sighting_to_json(sighting: Sighting) -> dict[str, Any]:
    return {
        "code": sighting.finding.code,
        "name": sighting.row.name,
        "line": sighting.line,
        "count": sighting.count,
        "message": sighting.finding.message,
    }


def _hint(sighting: Sighting, language: str) -> str:
    return sighting.row.hint_zh if language == "zh" else sighting.row.hint


def render(report: Report, language: str) -> list[str]:
    """Return the report as lines for one screen."""
    texts = TEXTS[language]
    lines = f"{report.lines:,}"
    if report.lines == 0:
        return [texts["empty"], texts["nothing_next"]]
    if not report.causes and not report.symptoms:
        return [texts["nothing"].format(lines=lines), texts["nothing_next"]]
    if not report.causes:
        what = _names(report.symptoms, language)
        first_step = _wrapped(_hint(report.symptoms[0][1], language))
        return [*_wrapped(texts["symptoms"].format(what=what)), *first_step]
    one = len(report.causes) == 1
    out = [texts["read_one" if one else "read"].format(lines=lines, causes=len(report.causes))]
    for number, cause in enumerate(report.causes[:CAUSES_SHOWN], 1):
        out += ["", *_cause(number, cause, language)]
    rest = [(cause.place, cause.root) for cause in report.causes[CAUSES_SHOWN:]]
    if rest:
        out += ["", texts["more"].format(rest=_names(rest, language))]
    if report.symptoms:
        out += ["", texts["symptoms"].format(what=_names(report.symptoms, language))]
    return out


def _cause(number: int, cause: Cause, language: str) -> Iterator[str]:
    texts = TEXTS[language]
    where, title = _where(cause.place, cause.root, language), _title(cause.root, language)
    yield f"{number}. {where}{texts['colon']}{title}"
    yield from _field(texts["how_bad"], SEVERITIES[language][cause.severity])
    yield from _field(texts["first"], _hint(cause.root, language))
    yield from _field(texts["needs"], ACTIONS[language][cause.action])
    stamp = f", {cause.root.stamp}" if cause.root.stamp else ""
    times = texts["times"].format(count=cause.root.count) if cause.root.count > 1 else ""
    yield from _field(
        texts["seen"], texts["seen_at"].format(line=cause.root.line, stamp=stamp, times=times)
    )
    yield "   > " + cause.root.finding.message[:EVIDENCE_WIDTH]
    if cause.other_places:
        places = texts["places_linked" if cause.is_link else "places"]
        if cause.is_server:
            places = texts["places_served"]
        yield from _field("", places.format(count=len(cause.other_places)))
    if cause.also:
        yield from _field(texts["also"], _names([(HERE, s) for s in cause.also], language))
    if cause.echoes:
        yield from _field(texts["follows"], _names(cause.echoes, language))


def _where(place: Place, root: Sighting, language: str) -> str:
    texts = TEXTS[language]
    vendor = root.row.vendor
    if place.name:
        name = place.name if place.uuid is None else f"{place.name} ({place.uuid})"
        is_chip = vendor not in ("host", "job")
        part = texts["chip"].format(vendor=vendor, name=name) if is_chip else name
    else:
        part = texts["job"] if place.is_job else texts["host"]
        if vendor not in ("host", "job") and not place.is_job:
            part = texts["some_chip"].format(vendor=vendor)
    return texts["on"].format(part=part, host=place.host) if place.host else part


def _title(sighting: Sighting, language: str) -> str:
    code = sighting.finding.code
    label = "" if code.startswith(("kernel:", "train:")) else f" [{code}]"
    unknown = "" if sighting.row.is_known else f" {TEXTS[language]['unknown']}"
    if language == "zh":
        kind = KINDS_ZH.get(sighting.finding.kind, sighting.finding.kind)
        return f"{kind}（{sighting.row.name}）{label}{unknown}"
    return f"{sighting.row.name}{label}{unknown}"


def _names(sightings: list[tuple[Place, Sighting]], language: str) -> str:
    """Return codes with counts and places, the first few of them."""
    words = []
    for place, sighting in sightings[:NAMES_SHOWN]:
        name = _short(sighting, language)
        times = f" ×{sighting.count}" if sighting.count > 1 else ""
        words.append(f"{name}{times}" + (f" ({place.name})" if place.name else ""))
    more = len(sightings) - NAMES_SHOWN
    if more > 0:
        words.append(f"+{more}")
    return TEXTS[language]["separator"].join(words)


def _short(sighting: Sighting, language: str) -> str:
    """Return a vendor's code, or words in the reader's language where there is none."""
    code = sighting.finding.code
    if not code.startswith(("kernel:", "train:")):
        return code
    return KINDS_ZH.get(sighting.finding.kind, code) if language == "zh" else sighting.row.name


def _field(label: str, text: str) -> Iterator[str]:
    """Yield a labelled paragraph, wrapped."""
    head = f"   {label}: " if label else "   "
    for line in _wrapped(text, WIDTH - _cells(head)):
        yield head + line
        head = " " * _cells(head)


def _wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Break text at blanks, and between Chinese characters, which are two cells wide."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and piece not in _STICKY and _cells(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str) -> Iterator[str]:
    """Yield words with the blank behind them; each Chinese character by itself."""
    word = ""
    for character in text:
        if _cells(character) == 2:
            if word:
                yield word
                word = ""
            yield character
        else:
            word += character
            if character == " ":
                yield word
                word = ""
    if word:
        yield word


def _cells(text: str) -> int:
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)
