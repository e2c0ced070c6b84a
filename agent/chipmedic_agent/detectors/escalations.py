"""Codes that mean more when they come again: data, each row with its reason.

An escalation never fires while another chip of the node says the same within `SOFTWARE_SECONDS`:
one program on several chips is then the likelier cause (a software fault that raised compute
time-outs on many chips once had much of a real fleet isolated by a repeat rule without this
filter).
"""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.model import Action, Severity

SOFTWARE_SECONDS = 30.0
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """So many occurrences on one chip within a window are a fault of the chip."""

    codes: frozenset[str]
    times: int
    window_seconds: float
    kind: str
    severity: Severity
    action: Action
    words: str
    by_program: bool = False
    """True: only occurrences under different programs count."""


ESCALATIONS = (
    # Xid 13 and 31 are normally the user's program; under three different ones it is the chip.
    Escalation(
        codes=frozenset({"xid:13", "xid:31"}),
        times=3,
        window_seconds=DAY_SECONDS,
        kind="chip.internal",
        severity=Severity.WARNING,
        action=Action.RESET_CHIP,
        words="fails under different programs",
        by_program=True,
    ),
    # Huawei's own repeat rules (device plugin, faultCode.json): HBM, twice and three times in a
    # day.
    Escalation(
        codes=frozenset({"ascend:80E01801", "ascend:80E18008", "ascend:80DE1801"}),
        times=2,
        window_seconds=DAY_SECONDS,
        kind="memory.uncorrectable",
        severity=Severity.CRITICAL,
        action=Action.ISOLATE_NODE,
        words="has had uncorrectable memory errors twice within a day",
    ),
    Escalation(
        codes=frozenset({"ascend:80E18005"}),
        times=3,
        window_seconds=DAY_SECONDS,
        kind="memory.uncorrectable",
        severity=Severity.CRITICAL,
        action=Action.ISOLATE_NODE,
        words="has had parity errors of its memory controller three times within a day",
    ),
    Escalation(
        codes=frozenset({"ascend:81078603"}),
        times=5,
        window_seconds=DAY_SECONDS,
        kind="link.degraded",
        severity=Severity.WARNING,
        action=Action.FIX_NETWORK,
        words="has lost its network port five times within a day",
    ),
)
"""Rows for one code each stand alone; a code is in one row at most."""

BY_CODE = {code: row for row in ESCALATIONS for code in row.codes}
