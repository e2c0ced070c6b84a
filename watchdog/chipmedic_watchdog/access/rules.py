"""How the name in an agent's certificate and the name of its node must agree."""

from __future__ import annotations

EXACT, FIRST_LABEL, ANY = "exact", "first_label", "any"
RULES = (EXACT, FIRST_LABEL, ANY)
