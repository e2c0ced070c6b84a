"""Two vendors' tools are called `xpu-smi`: Intel's and Kunlunxin's.

Where the text does not tell, the arguments do: Intel's takes a subcommand, Kunlunxin's none of
these.
"""

from __future__ import annotations

INTEL_WORDS = (
    "discovery",
    "topology",
    "group",
    "stats",
    "dump",
    "health",
    "policy",
    "config",
    "diag",
    "ps",
    "vgpu",
    "updatefw",
    "agentset",
    "amcsensor",
    "log",
    "-v",
    "--version",
    "--query-gpu",
)
