"""What one line of a log says by itself."""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.model import Action, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault (or, with severity INFO, one fact) that one line states."""

    kind: str
    """One of `KINDS`, or `info` for a line that is context only."""
    severity: Severity
    action: Action
    code: str
    """`xid:79`, `sxid:20034`, `ascend:80E01801`, `kernel:host.oom`, ..."""
    vendor: str
    """`nvidia`, `amd`, ..., or `host` for no chip."""
    message: str
    """The line without its prefix."""
    pci: str | None = None
    """`dddd:bb:dd` or with `.f`, lower case."""
    device: str | None = None
    """Another name of the part where the line has no PCI address: `nvme0n1`, `mlx5_0`, `npu:3`."""
    hint: str = ""
    """Where to start, from the catalog (English)."""
    count: int = 1
