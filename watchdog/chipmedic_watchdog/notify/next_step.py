"""What chipmedic does next, in words, and how to stop it."""

from __future__ import annotations

from chipmedic_watchdog.notify.facts import IncidentFacts, RecoveryFacts
from chipmedic_watchdog.notify.words import Words

ACTING = ("act", "propose")


def next_lines(facts: IncidentFacts, words: Words) -> list[str]:
    """Return what chipmedic does, has done, or would do, and why."""
    recovery, is_over = facts.recovery, facts.state == "resolved"
    if recovery is None or recovery.is_return != is_over:
        # Of what happened before the faults ended, or came back, nothing is next.
        return _after_end(facts, words) if is_over else [words.say("next", "undecided")]
    return [
        words.say(
            "next",
            _sentence(recovery),
            plan=plan(recovery, words),
            why=_why(recovery, words),
            rule=recovery.evidence.get("rule", ""),
            who=recovery.evidence.get("approved_by", ""),
            recovery=recovery.id,
            detail=recovery.detail or recovery.reason,
        )
    ]


def _after_end(facts: IncidentFacts, words: Words) -> list[str]:
    """Return what is left when the faults are over: a node that is out does not return by that."""
    if not facts.isolated:
        return [words.say("next", "resolved")]
    nodes = words.join(list(facts.isolated), "comma")
    return [words.say("next", "resolved_isolated", nodes=nodes, node=facts.isolated[0])]


def stop_lines(facts: IncidentFacts, words: Words) -> list[str]:
    """Return how to stop what is under way or waits; nothing where there is nothing to stop."""
    recovery = facts.recovery
    if recovery is None or recovery.state not in ("planned", "running"):
        return []
    return [
        words.say("stop", "running", recovery=recovery.id),
        words.say("stop", "everything"),
    ]


def plan(recovery: RecoveryFacts, words: Words) -> str:
    """Return the acts of a recovery: `isolate n1 and restart slurm:7`."""
    nodes = words.join(list(recovery.evidence.get("nodes", ())), "comma")
    jobs = words.join(list(recovery.evidence.get("jobs", ())), "comma")
    if recovery.is_return:
        return words.say("sentences", "give_back", nodes=nodes)
    acts = [words.say("sentences", "isolate", nodes=nodes)] if nodes else []
    acts += [words.say("sentences", "restart", jobs=jobs)] if jobs else []
    if len(acts) == 2:
        return words.say("sentences", "and", one=acts[0], other=acts[1])
    return acts[0] if acts else words.say("sentences", "nothing")


def _sentence(recovery: RecoveryFacts) -> str:
    """Return the key of the sentence for a recovery's state and mode."""
    is_action = bool(recovery.evidence.get("nodes") or recovery.evidence.get("jobs"))
    if recovery.state == "not_taken":
        if not (is_action and recovery.adapter):
            return "nothing"
        return recovery.mode if recovery.mode in ("observe", "notify") else "nothing"
    if recovery.is_return and recovery.state == "proposed":
        return "return_proposed"
    if recovery.is_return and recovery.state in ("planned", "running"):
        return "approved" if recovery.evidence.get("approved_by") else "returning"
    if recovery.state in ("planned", "running"):
        if recovery.evidence.get("approved_by"):
            return "approved"
        return "proposed" if recovery.mode == "propose" else "running"
    return recovery.state if recovery.state != "failed" else "held"


def _why(recovery: RecoveryFacts, words: Words) -> str:
    key = "returned" if recovery.is_return else str(recovery.evidence.get("why", ""))
    return words.table["why"].get(key, recovery.reason)
