"""The notice for programs: the facts as JSON, the same in every language."""

from __future__ import annotations

from typing import Any

from chipmedic_watchdog.notify.facts import FaultFacts, IncidentFacts


def as_data(
    facts: IncidentFacts,
    occasion: str,
    *,
    language: str,
    cluster: str = "",
    external_url: str = "",
    grouped: str = "",
) -> dict[str, Any]:
    """Return the facts of a notice; times are UNIX seconds."""
    recovery = facts.recovery
    return {
        "version": 1,
        "occasion": occasion,
        "language": language,
        "incident": facts.id,
        "url": f"{external_url.rstrip('/')}/api/v1/incidents/{facts.id}" if external_url else None,
        "cluster": facts.labels.get("cluster", cluster) or None,
        "reopened_count": facts.reopened_count,
        "revision": facts.revision,
        "state": facts.state,
        "kind": facts.kind,
        "cause": facts.cause,
        "grouped": grouped or None,
        "severity": facts.severity.name.lower(),
        "title": facts.title,
        "nodes": list(facts.nodes),
        "labels": dict(facts.labels),
        "fault_at": facts.fault_at,
        "opened_at": facts.opened_at,
        "resolved_at": facts.resolved_at,
        "faults": [_fault(fault) for fault in facts.faults],
        "jobs": [
            {
                "job": job.job,
                "name": job.name,
                "user": job.user,
                "node_count": job.node_count,
                "ranks": {node: list(ranks) for node, ranks in job.ranks.items()},
                "step": job.step,
                "checkpoint_step": job.checkpoint_step,
                "late": [
                    {
                        "node": late.node,
                        "ranks": list(late.ranks),
                        "step": late.step,
                        "is_gone": late.is_gone,
                    }
                    for late in job.late
                ],
            }
            for job in facts.jobs
        ],
        "recovery": None
        if recovery is None
        else {
            "id": recovery.id,
            "mode": recovery.mode,
            "state": recovery.state,
            "adapter": recovery.adapter,
            "reason": recovery.reason,
            "detail": recovery.detail,
            "nodes": list(recovery.evidence.get("nodes", ())),
            "jobs": list(recovery.evidence.get("jobs", ())),
        },
    }


def _fault(fault: FaultFacts) -> dict[str, Any]:
    chip = fault.chip
    return {
        "node": fault.node,
        "component": fault.component,
        "kind": fault.kind,
        "severity": fault.severity.name.lower(),
        "summary": fault.summary,
        "codes": list(fault.codes),
        "evidence": list(fault.evidence),
        "chip": None
        if chip is None
        else {
            "vendor": chip.vendor,
            "model": chip.model,
            "index": chip.index,
            "serial": chip.serial,
            "pci": chip.pci,
        },
    }
