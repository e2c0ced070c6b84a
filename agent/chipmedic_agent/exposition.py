"""The text that Prometheus reads: format 0.0.4, gauges and counters.

Written here because the client library, for the two sorts that are needed, takes 2.4 MiB and most
of a scrape's time. Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Family:
    """All samples of one name; a counter where the name ends in `_total`, else a gauge."""

    def __init__(self, name: str, help_text: str, value: float | None = None) -> None:
        """Begin a family; `value` is its only sample where it has no labels."""
        self._name = name
        kind = "counter" if name.endswith("_total") else "gauge"
        self._lines = [f"# HELP {name} {help_text.translate(_IN_HELP)}", f"# TYPE {name} {kind}"]
        if value is not None:
            self.add(value)

    def add(self, value: float, labels: str = "") -> None:
        """Add a sample; `labels` is what `label_text` returned."""
        self._lines.append(f"{self._name}{labels} {float(value)!r}")

    @property
    def text(self) -> str:
        """What stands on the page."""
        return "\n".join(self._lines)


def label_text(labels: Mapping[str, str]) -> str:
    """Return labels as they stand behind a name; none is empty."""
    if not labels:
        return ""
    pairs = (f'{name}="{labels[name].translate(_IN_LABEL)}"' for name in sorted(labels))
    return f"{{{','.join(pairs)}}}"


def written(families: Iterable[Family]) -> bytes:
    """Return the page."""
    return "".join(f"{family.text}\n" for family in families).encode()
