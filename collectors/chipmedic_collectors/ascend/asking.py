"""`npu-smi` and `hccn_tool`, asked one at a time.

npu-smi has no time limit of its own and waits for the device (30 s and more); hccn_tool takes a
lock for the whole host. Both go through one `Tool`, so nothing is started beside a process that
cannot be killed.
"""

from __future__ import annotations

from chipmedic import Host
from chipmedic_collectors.ascend.arguments import HCCN_TOOL, NPU_SMI
from chipmedic_collectors.ascend.tools import READER
from chipmedic_collectors.tool_asking import Asked, Tool

_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/local/Ascend/driver/tools")
"""Where the driver's installer puts its tools; not all of them are on the PATH of a service."""
_LIBRARIES = tuple(f"/usr/local/Ascend/driver/lib64{part}" for part in ("", "/common", "/driver"))


class Tools:
    """The two tools of one host; see `Tool.ask` for what is raised and when."""

    def __init__(self, host: Host) -> None:
        self._tool = Tool(host, READER, _FOLDERS, libraries=_LIBRARIES)

    def is_installed(self) -> bool:
        """Say whether npu-smi is on this host."""
        return self._tool.find(NPU_SMI) is not None

    def npu_smi(self, *words: str, timeout_seconds: float) -> Asked:
        """Run npu-smi."""
        return self._tool.ask((NPU_SMI, *words), timeout_seconds=timeout_seconds)

    def hccn(self, *words: str, timeout_seconds: float) -> Asked:
        """Run hccn_tool."""
        return self._tool.ask((HCCN_TOOL, *words), timeout_seconds=timeout_seconds)
