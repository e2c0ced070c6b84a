"""How far chipmedic goes by itself: the mode, by the incident's kind and its nodes' partitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from chipmedic_watchdog.recover.settings import Mode, RecoverSettings, RuleSettings

DEFAULT_RULE = "default"


def mode_for(
    settings: RecoverSettings,
    kind: str,
    partitions: Mapping[str, Collection[str]] | None = None,
) -> tuple[Mode, str]:
    """Return the mode for an incident of this kind, and what decided, for the record.

    `partitions` are those of each node of the incident. A rule for partitions is for an incident
    all of whose nodes it covers: of one that reaches further, a milder rule must speak.
    """
    for rule in settings.rules:
        pattern = next((p for p in rule.kinds if fnmatchcase(kind, p)), None)
        if pattern is None or not _covers(rule, partitions or {}):
            continue
        where = f" in {', '.join(rule.partitions)}" if rule.partitions else ""
        return rule.mode, pattern + where
    return settings.mode, DEFAULT_RULE


def partitions_of(labels: Mapping[str, str]) -> frozenset[str]:
    """Return the partitions that a node's labels name."""
    names = (name.strip() for name in labels.get("partition", "").split(","))
    return frozenset(name for name in names if name)


def _covers(rule: RuleSettings, partitions: Mapping[str, Collection[str]]) -> bool:
    if not rule.partitions:
        return True
    return bool(partitions) and all(
        any(fnmatchcase(name, pattern) for name in names for pattern in rule.partitions)
        for names in partitions.values()
    )
