"""What a pasted output of a vendor's tool says is wrong, for `chipmedic explain`.

Every reader looks for its own tool's mark; a log has none. Nothing is judged here but what the tool
itself states: its words of ill health, its codes, what it calls lost, its complaints.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, BinaryIO

from chipmedic.faults.catalog import lookup
from chipmedic.tool_readers import load_readers, read_tool_run
from chipmedic.tool_report import ChipReport, Health, ToolReader, ToolReport, ToolRun
from chipmedic.words import counted

HEAD_MAX = 262_144
"""A longer text is a log: no table of a host is so long."""
_SURE = 3
"""What a reader answers that has seen its own tool's mark in the text."""
_TEXTS = {
    "en": {
        "what": "This is the output of {vendor}'s tool{version}: {counted}.",
        "well": "By the tool's own word nothing is wrong with them. It names present state only; "
        "what happened is in the kernel log: dmesg -T | chipmedic explain -",
        "state": "states {health}",
        "lost": "lost",
        "pending": "memory repair waits for a reset",
        "failed": "memory repair failed",
        "codes": "codes {codes}",
        "problem": "The answer is not whole ({kind}): {message}",
        "first": "First: ",
    },
    "zh": {
        "what": "这是 {vendor} 工具的输出{version}：{chips} 个芯片。",
        "well": "工具自身没有报告异常。它只反映当前状态，发生过什么请看内核日志："
        "dmesg -T | chipmedic explain -",
        "state": "状态 {health}",
        "lost": "已丢失",
        "pending": "内存修复等待复位",
        "failed": "内存修复失败",
        "codes": "故障码 {codes}",
        "problem": "输出不完整（{kind}）：{message}",
        "first": "第一步：",
    },
}


def split_head(stream: BinaryIO) -> tuple[str | None, BinaryIO]:
    """Return a text that is short enough for a tool's output, and the stream from its beginning."""
    head = stream.read(HEAD_MAX)
    if len(head) < HEAD_MAX:
        return head.decode("utf-8", errors="replace"), io.BytesIO(head)
    return None, io.BufferedReader(_Joined(head, stream))


def read_tool_output(text: str, readers: Iterable[ToolReader] | None = None) -> ToolReport | None:
    """Return what a text states if it is surely the output of a known tool, else None."""
    known = list(load_readers() if readers is None else readers)
    run = ToolRun((), text, "", None)
    if not any(reader.recognises(run) >= _SURE for reader in known):
        return None
    return read_tool_run(run, known)


def render(report: ToolReport, language: str) -> list[str]:
    """Return lines for a person: what it is, each chip that is not well, what is missing."""
    texts = _TEXTS[language]
    version = report.driver_version or report.tool_version
    said = f" {version}" if version else ""
    what = texts["what"].format(
        vendor=report.vendor,
        version=said,
        chips=len(report.chips),
        counted=counted(len(report.chips), "chip"),
    )
    ill = [line for chip in report.chips for line in _chip(report.vendor, chip, language)]
    ill += [texts["problem"].format(kind=p.kind.value, message=p.message) for p in report.problems]
    return [what, *(ill or [texts["well"]])]


def _chip(vendor: str, chip: ChipReport, language: str) -> list[str]:
    texts = _TEXTS[language]
    words = [] if chip.health in (None, Health.OK) else [texts["state"].format(health=chip.health)]
    words += [texts["lost"]] if chip.lost else []
    words += [texts["pending"]] if chip.remap_pending else []
    words += [texts["failed"]] if chip.remap_failed else []
    if chip.error_codes:
        words.append(texts["codes"].format(codes=" ".join(chip.error_codes)))
    if not words:
        return []
    number = "" if chip.index is None else f" {chip.index}" + (f"/{chip.die}" if chip.die else "")
    place = f" ({chip.pci})" if chip.pci else ""
    lines = [f"{vendor}{number}{place}: {', '.join(words)}"]
    for code in chip.error_codes or []:
        row = lookup(f"{vendor}:{code}")
        hint = row.hint_zh if language == "zh" else row.hint
        lines += [f"   {code} {row.name}", f"   {texts['first']}{hint}"] if row.is_known else []
    return lines


class _Joined(io.RawIOBase):
    """What was read of a stream already, and then the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
