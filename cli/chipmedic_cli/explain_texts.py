"""The words of `chipmedic explain` in both languages."""

from __future__ import annotations

from chipmedic.model import Action, Severity

LANGUAGES = ("en", "zh")

SEVERITIES = {
    "en": {
        Severity.INFO: "for the record",
        Severity.WARNING: "degraded, or about to fail",
        Severity.CRITICAL: "the job fails, or must leave this part",
    },
    "zh": {
        Severity.INFO: "仅记录",
        Severity.WARNING: "性能下降或即将失败",
        Severity.CRITICAL: "作业会失败，或必须撤离该部件",
    },
}

ACTIONS = {
    "en": {
        Action.NONE: "watch",
        Action.RESTART_JOB: "restart the job",
        Action.CHECK_APP: "check the program",
        Action.RESET_CHIP: "reset the chip",
        Action.REBOOT_NODE: "reboot the node",
        Action.ISOLATE_NODE: "take the node out of service",
        Action.REPLACE_CHIP: "replace the chip",
        Action.FIX_NETWORK: "repair the network",
        Action.FIX_HOST: "repair the host",
    },
    "zh": {
        Action.NONE: "观察",
        Action.RESTART_JOB: "重启作业",
        Action.CHECK_APP: "检查程序",
        Action.RESET_CHIP: "复位芯片",
        Action.REBOOT_NODE: "重启节点",
        Action.ISOLATE_NODE: "隔离节点",
        Action.REPLACE_CHIP: "更换芯片",
        Action.FIX_NETWORK: "修复网络",
        Action.FIX_HOST: "修复主机",
    },
}

KINDS_ZH = {
    "memory.uncorrectable": "不可纠正内存错误",
    "memory.correctable": "可纠正内存错误",
    "memory.contained": "已隔离的内存错误",
    "memory.remap_pending": "待重映射",
    "memory.remap_failed": "重映射失败",
    "chip.lost": "芯片丢失",
    "chip.hung": "芯片卡死",
    "chip.reset_required": "芯片需要复位",
    "chip.firmware": "芯片固件故障",
    "chip.internal": "芯片内部故障",
    "chip.reset": "芯片被复位",
    "link.down": "芯片间链路断开",
    "link.errors": "芯片间链路错误",
    "link.degraded": "芯片间链路降级",
    "pcie.errors": "PCIe 错误",
    "pcie.degraded": "PCIe 降级",
    "nic.down": "网口断开",
    "nic.flap": "网口抖动",
    "nic.errors": "网卡错误",
    "thermal.throttle": "过热降频",
    "thermal.critical": "温度严重超限",
    "power.throttle": "功率受限",
    "power.fault": "供电故障",
    "driver.fault": "驱动故障",
    "driver.mismatch": "驱动版本不匹配",
    "app.fault": "程序错误",
    "host.oom": "主机内存耗尽",
    "host.memory_error": "主机内存错误",
    "host.cpu_error": "主机处理器错误",
    "host.disk_error": "磁盘错误",
    "host.fs_error": "文件系统错误",
    "host.hung_task": "任务卡在内核",
    "host.lockup": "处理器锁死",
    "host.panic": "内核崩溃",
    "job.hung": "作业挂起",
    "job.crashed": "作业崩溃",
    "job.straggler": "作业慢节点",
    "job.returned": "作业回到已隔离节点",
    "node.unreachable": "节点失联",
    "node.rebooted": "节点重启",
    "node.black_hole": "节点连续杀死作业",
    "collector.blocked": "采集卡住",
    "collector.failed": "采集失败",
}

TEXTS = {
    "en": {
        "empty": "The log is empty: it says nothing, good or bad.",
        "nothing": "Lines read: {lines}. Nothing in them is known as a fault.",
        "nothing_next": (
            "A kernel log tells most: dmesg -T | chipmedic explain -   "
            "(or journalctl -k -b -1 for the boot before)"
        ),
        "read": "Lines read: {lines}. {causes} things to look at; start with the first.",
        "read_one": "Lines read: {lines}. One thing to look at.",
        "host": "the host",
        "on": "{part} on {host}",
        "chip": "{vendor} chip {name}",
        "some_chip": "an {vendor} chip that the line does not name",
        "job": "the job",
        "how_bad": "How bad",
        "first": "First",
        "needs": "Needs",
        "seen": "Seen",
        "seen_at": "line {line}{stamp}{times}",
        "times": ", in {count} lines",
        "also": "Also here",
        "follows": "Follows",
        "places": "Same on {count} more chips: one program on many chips points to the program",
        "places_linked": (
            "Links of {count} more parts are hit: look at what lies between them (switch, cable, "
            "fabric) and at a chip that failed first"
        ),
        "places_served": "Same on {count} more hosts: look at the server and the network to it",
        "more": "Less urgent: {rest}",
        "symptoms": (
            "Only symptoms: {what}. The cause is in the log of the rank that stopped first, or in "
            "its host's kernel log."
        ),
        "unknown": "(not in the catalog)",
        "separator": "; ",
        "colon": ": ",
    },
    "zh": {
        "empty": "日志为空：不能说明好坏。",
        "nothing": "共 {lines} 行，没有发现已知故障。",
        "nothing_next": (
            "内核日志信息最多：dmesg -T | chipmedic explain -   "
            "（上一次启动用 journalctl -k -b -1）"
        ),
        "read": "共 {lines} 行，发现 {causes} 个问题，请从第一个开始。",
        "read_one": "共 {lines} 行，发现一个问题。",
        "host": "主机",
        "on": "{host} 的 {part}",
        "chip": "{vendor} 芯片 {name}",
        "some_chip": "{vendor} 芯片（该行未指明）",
        "job": "作业",
        "how_bad": "严重程度",
        "first": "首先",
        "needs": "需要",
        "seen": "出现于",
        "seen_at": "第 {line} 行{stamp}{times}",
        "times": "，共 {count} 行",
        "also": "同部件",
        "follows": "连带",
        "places": "另有 {count} 个芯片相同：同一程序多芯片出现通常是程序问题",
        "places_linked": (
            "另有 {count} 个部件的链路也受影响：请检查它们之间的交换芯片与线缆，以及最先失效的芯片"
        ),
        "places_served": "另有 {count} 台主机相同：请检查服务器及其网络",
        "more": "次要：{rest}",
        "symptoms": "只有现象：{what}。原因在最先停止的 rank 的日志或其主机内核日志中。",
        "unknown": "（目录中没有）",
        "separator": "；",
        "colon": "：",
    },
}
