"""Sets of metrics that one question of a vendor's tool usually states together."""

from __future__ import annotations

from chipmedic import Metric

LOAD = frozenset(
    {
        Metric.TEMPERATURE,
        Metric.POWER,
        Metric.UTILIZATION,
        Metric.MEMORY_USED,
        Metric.MEMORY_TOTAL,
    }
)
"""What the default table of almost every tool shows of a chip."""
ECC = frozenset({Metric.ECC_CORRECTED, Metric.ECC_UNCORRECTED})
