"""The account of a job as text, for a terminal and for notices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from unicodedata import east_asian_width

LANGUAGES = ("en", "zh")
LOSSES_MAX = 20
"""Waits that are shown one by one: the longest ones."""

PHASES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "productive": "productive", "checkpoint": "checkpoint", "other": "other phases",
        "start": "start", "detect": "detect", "decide": "decide", "isolate": "isolate",
        "restart": "restart", "recompute": "recompute", "unexplained": "unexplained",
    },
    "zh": {
        "productive": "有效训练", "checkpoint": "保存检查点", "other": "其他阶段",
        "start": "首次启动", "detect": "发现", "decide": "决策", "isolate": "隔离",
        "restart": "重启", "recompute": "重算", "unexplained": "原因不明",
    },
}  # fmt: skip
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "head": "{job}: {ratio} effective in {wall}, {starts}, at step {step}",
        "unknown": "{job}: tells no steps, so nobody can say what was productive "
        "(call chipmedic.beat in the job)",
        "start": "1 start", "starts": "{count} starts",
        "lost": "lost in all", "none": "no time was lost",
        "archived": "each loss is no longer stored, only these sums ([store] keep_jobs_days)",
        "losses": "where the lost time went",
        "loss": "{seconds}  {at}  {incident}",
        "open": "{seconds} so far  {at}  {incident}",
        "no_incident": "no incident explains it",
        "more": "and {count} shorter ones, {seconds} together",
        "steps": "steps {first} to {last}",
    },
    "zh": {
        "head": "{job}：{wall}内有效训练 {ratio}，{starts}，到第 {step} 步",
        "unknown": "{job}：作业没有报告步数，无法判断哪些时间有效（请在作业中调用 chipmedic.beat）",
        "start": "启动 1 次", "starts": "启动 {count} 次",
        "lost": "共损失", "none": "没有损失时间",
        "archived": "各次损失的明细已清除，只保留以上合计（[store] keep_jobs_days）",
        "losses": "损失的时间去了哪里",
        "loss": "{seconds}  {at}  {incident}",
        "open": "至今 {seconds}  {at}  {incident}",
        "no_incident": "没有事件可以解释",
        "more": "另有 {count} 次较短的，共 {seconds}",
        "steps": "第 {first} 至 {last} 步",
    },
}  # fmt: skip
_UNITS = {"en": (" d", " h", " min", " s"), "zh": (" 天", " 小时", " 分", " 秒")}


def render_text(data: Mapping[str, Any], language: str = "en") -> str:
    """Return the text of what `summary.summary` returned; it ends without a line feed."""
    words = _WORDS[language]
    if data["effective_ratio"] is None:
        return words["unknown"].format(job=data["job"])
    starts = words["start" if data["starts"] == 1 else "starts"].format(count=data["starts"])
    head = words["head"].format(
        job=data["job"],
        ratio=percent(data["effective_ratio"]),
        wall=duration(data["wall_seconds"], language),
        starts=starts,
        step=data["highest_step"],
    )
    lines = [head, "", *_table(data, language), ""]
    if data["losses"]:
        lines += _losses(data, language)
    else:
        lines.append(words["archived" if data["is_archived"] else "none"])
    return "\n".join(lines)


def percent(ratio: float) -> str:
    """Return a ratio in percent, never rounded up to a whole that it is not."""
    digits = 2 if 0.99 <= ratio < 1.0 else 1
    scale = 10**digits
    return f"{int(ratio * 100 * scale) / scale:.{digits}f} %"


def duration(seconds: float, language: str = "en") -> str:
    """Return a duration in its two largest units; short ones with a tenth of a second."""
    days, hours, minutes, unit = _UNITS[language]
    if seconds < 60:
        return f"{seconds:.1f}{unit}"
    for size, name, part, part_name in (
        (86_400, days, 3_600, hours),
        (3_600, hours, 60, minutes),
        (60, minutes, 1, unit),
    ):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole:.0f}{name} {rest // part:.0f}{part_name}"
    raise AssertionError(seconds)


def _table(data: Mapping[str, Any], language: str) -> list[str]:
    names = PHASES[language]
    rows = [
        (names[phase], duration(seconds, language), percent(seconds / data["wall_seconds"]))
        for phase, seconds in data["seconds"].items()
        if seconds > 0 or phase == "productive"
    ]
    lost = data["lost_seconds"]
    share = percent(lost / data["wall_seconds"])
    rows.append((_WORDS[language]["lost"], duration(lost, language), share))
    wide = [max(width(row[n]) for row in rows) for n in range(3)]
    return [
        f"  {_left(name, wide[0])}  {_right(time, wide[1])}  {_right(share, wide[2])}"
        for name, time, share in rows
    ]


def _losses(data: Mapping[str, Any], language: str) -> list[str]:
    words = _WORDS[language]
    ordered = sorted(data["losses"], key=lambda loss: -loss["seconds"])
    shown = sorted(ordered[:LOSSES_MAX], key=lambda loss: loss["start_at"])
    lines = [words["losses"]]
    for loss in shown:
        lines += _loss(loss, data["incidents"], language)
    if rest := ordered[LOSSES_MAX:]:
        seconds = duration(sum(loss["seconds"] for loss in rest), language)
        lines.append("  " + words["more"].format(count=len(rest), seconds=seconds))
    return lines


def _loss(loss: Mapping[str, Any], incidents: Mapping[str, Any], language: str) -> list[str]:
    words = _WORDS[language]
    incident = words["no_incident"]
    if loss["incident"] is not None:
        known = incidents.get(loss["incident"])
        incident = f"{loss['incident']} {_plain(known['title'])}" if known else loss["incident"]
    head = words["open" if loss["end_at"] is None else "loss"].format(
        seconds=duration(loss["seconds"], language), at=clock(loss["start_at"]), incident=incident
    )
    names = PHASES[language]
    wide = max(width(names[stage["phase"]]) for stage in loss["stages"])
    lines = ["  " + head]
    for stage in loss["stages"]:
        detail = _detail(stage["detail"], language)
        time = _right(duration(stage["seconds"], language), 10)
        lines.append(f"    {_left(names[stage['phase']], wide)} {time}  {detail}".rstrip())
    return lines


def _detail(detail: str, language: str) -> str:
    words = detail.split()
    if len(words) == 4 and words[0] == "steps":
        return _WORDS[language]["steps"].format(first=words[1], last=words[3])
    return _plain(detail)


def clock(at: float) -> str:
    """Return a time in UTC as people read it in logs."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _plain(text: str) -> str:
    """Return foreign text without control signs."""
    return "".join(sign if sign.isprintable() else "·" for sign in text)


def width(text: str) -> int:
    """Return how many columns a terminal gives a text."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _left(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _right(text: str, columns: int) -> str:
    return " " * (columns - width(text)) + text
