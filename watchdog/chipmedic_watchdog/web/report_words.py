"""The words of the report's page."""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Where the time went", "from": "from", "to": "to", "effective": "effective",
        "unknown": "unknown", "wall": "wall time", "lost": "lost", "times": "times",
        "each": "each", "share": "share", "phase": "went to", "time": "time", "job": "job",
        "jobs": "Jobs", "cause": "Lost to", "causes": "What the time was lost to",
        "vendor": "chips of", "vendors": "By vendor", "losses": "Losses, the longest first",
        "when": "when", "incident": "incident", "timeline": "Timeline",
        "starts": "starts", "state": "state", "running": "running", "ended": "ended",
        "no_incident": "no incident explains it", "none": "No time was lost.",
        "no_jobs": "No job has told a step in this time (jobs tell theirs with chipmedic.beat).",
        "mute": "Jobs that tell no steps, so that what they made is unknown: {count}.",
        "left_out": "Jobs that lost less and are not in the picture: {count}.",
        "more": "shorter ones besides: {count}",
        "archived": "Jobs of which only the sums are still stored, not in the lists: {count}.",
        "archived_job": "Only the sums of this job are still stored.",
        "so_far": "so far",
        "short": "A loss that is too short for the picture is drawn at its least width.",
        "formula": "Effective: time that made steps which were never made before, divided by the "
        "wall time. Detection counts as lost. The rows of each table add up to its whole.",
    },
    "zh": {
        "title": "时间去了哪里", "from": "从", "to": "至", "effective": "有效训练",
        "unknown": "未知", "wall": "总时长", "lost": "损失", "times": "次数",
        "each": "每次", "share": "占比", "phase": "用于", "time": "时长", "job": "作业",
        "jobs": "作业", "cause": "损失原因", "causes": "时间损失在哪里",
        "vendor": "芯片厂商", "vendors": "按厂商", "losses": "各次损失，最长的在前",
        "when": "时间", "incident": "事件", "timeline": "时间线",
        "starts": "启动次数", "state": "状态", "running": "运行中", "ended": "已结束",
        "no_incident": "没有事件可以解释", "none": "没有损失时间。",
        "no_jobs": "这段时间内没有作业报告步数（请在作业中调用 chipmedic.beat）。",
        "mute": "{count} 个作业没有报告步数，无法判断其有效时间。",
        "left_out": "另有 {count} 个损失较少的作业未画出。",
        "more": "另有 {count} 次较短的",
        "archived": "{count} 个作业只保留了合计，未列入清单。",
        "archived_job": "该作业只保留了合计。",
        "so_far": "至今",
        "short": "过短的损失以最小宽度画出。",
        "formula": "有效训练：产生从未做过的步的时间除以总时长。发现故障的时间计为损失。"
        "各表各行之和等于总数。",
    },
}  # fmt: skip
