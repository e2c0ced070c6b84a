"""What the API server's refusals mean: which pass by themselves, and how they are told. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from chipmedic.errors import DeliveryFailed

PERMANENT = frozenset({400, 403, 404, 405, 410, 413, 415, 422})
"""Asking again does not change these. 401 may: tokens are renewed."""
PASSING = frozenset({429, 500, 502, 503, 504})
BUDGET_CAUSE = "DisruptionBudget"
TWO_BUDGETS = "more than one PodDisruptionBudget"


class Refused(DeliveryFailed):
    """The API server said no."""

    def __init__(
        self, message: str, *, status: int, by_budget: bool = False, wait_seconds: float = 0.0
    ) -> None:
        self.status = status
        self.by_budget = by_budget
        """A disruption budget does not let a pod go: no trouble of the server, but an answer."""
        self.wait_seconds = wait_seconds
        """So long the server asks to wait."""
        super().__init__(message, is_permanent=status in PERMANENT)

    @property
    def passes(self) -> bool:
        """True where the same request may be answered in a moment."""
        return self.status in PASSING and not self.by_budget


def refused(what: str, status: int, body: str, headers: Mapping[str, str]) -> Refused:
    """Return the refusal that an answer is; a body that is no `Status` is told as it is."""
    told = _status_of(body)
    message = str(told.get("message") or "").strip() or body.strip() or "no reason given"
    details = told.get("details")
    details = details if isinstance(details, Mapping) else {}
    causes = details.get("causes")
    reasons = [c.get("reason") for c in causes or () if isinstance(c, Mapping)] if causes else []
    by_budget = (status == 429 and BUDGET_CAUSE in reasons) or TWO_BUDGETS in message
    if by_budget and (names := _causes_told(causes)):
        message = f"{message} ({names})"
    remedy = "; see deploy/kubernetes/rbac.yaml" if status == 403 else ""
    return Refused(
        f"{what}: {status} {message[:400]}{remedy}",
        status=status,
        by_budget=by_budget,
        wait_seconds=_wait_seconds(headers),
    )


def _causes_told(causes: object) -> str:
    """Return what a disruption budget says of itself: its name, and how many pods it needs."""
    found = causes if isinstance(causes, list) else []
    told = [str(c.get("message") or "") for c in found if isinstance(c, Mapping)]
    return "; ".join(text for text in told if text)


def _status_of(body: str) -> Mapping[str, object]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, Mapping) else {}


def _wait_seconds(headers: Mapping[str, str]) -> float:
    """Return what `Retry-After` asks for, in seconds; its form as a date is not used here."""
    text = next((value for key, value in headers.items() if key.lower() == "retry-after"), "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0
