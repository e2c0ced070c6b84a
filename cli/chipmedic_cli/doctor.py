"""`chipmedic doctor`: what was found on this host, and what to do about each gap.

Every check returns `Finding`s and changes nothing. What is in the machine (PCI) is asked apart from
what the vendor's tools say, because a broken driver makes a tool say that nothing is there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.markup import escape

from chipmedic.errors import CollectError
from chipmedic.host import Host, LinuxHost
from chipmedic_agent.registry import Absent, Broken, Found, discover, installed_collectors
from chipmedic_cli import job_rights

OK, NOTE, GAP = "ok", "note", "gap"
COLLECTORS = "collectors"

TOOL_TIMEOUT_SECONDS = 10.0
AGENT_URL = "http://127.0.0.1:9480/healthz"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    what: str
    state: str
    """`ok`, `note` (worth knowing), `gap` (chipmedic sees less than it should)."""
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Vendor:
    """How to find a vendor's chips without its tools."""

    name: str
    pci_vendors: tuple[str, ...]
    pci_classes: tuple[str, ...]
    """Beginnings of the PCI class: 0x0300 VGA, 0x0302 3D, 0x0380 display, 0x1200 accelerator."""
    tools: tuple[tuple[str, ...], ...]
    """Command lines that print a version; the first that is installed counts."""
    packages: str


_ANY_CHIP = ("0x12", "0x03", "0x0b40")

# PCI vendor numbers: the public PCI ID registry. Hygon's DCUs answer with 1d94.
VENDORS = (
    Vendor("nvidia", ("0x10de",), ("0x0300", "0x0302"), (("nvidia-smi", "--version"),), "driver"),
    Vendor("ascend", ("0x19e5",), ("0x1200",), (("npu-smi", "-v"),), "Ascend HDK driver"),
    Vendor(
        "amd",
        ("0x1002",),
        ("0x0380", "0x1200"),
        (("amd-smi", "version"), ("rocm-smi", "--version")),
        "ROCm: amd-smi-lib",
    ),
    Vendor("hygon", ("0x1d94",), ("0x0380", "0x1200"), (("hy-smi", "--version"),), "DTK"),
    Vendor("kunlun", ("0x1d22",), ("0x1200",), (("xpu-smi", "-v"), ("xpu_smi", "-v")), "XRE"),
    Vendor("gaudi", ("0x1da3",), ("0x1200",), (("hl-smi", "--version"),), "habanalabs driver"),
    # Data center GPUs and Arc Pro; a processor's own display has class 0x0300.
    Vendor(
        "intel", ("0x8086",), ("0x0380",), (("xpumcli", "-v"), ("xpu-smi", "-v")), "XPU Manager"
    ),
    Vendor("cambricon", ("0xcabc",), _ANY_CHIP, (("cnmon", "version"),), "Cambricon driver"),
    Vendor("metax", ("0x9999",), _ANY_CHIP, (("mx-smi", "--version"),), "MetaX driver"),
    Vendor("mthreads", ("0x1ed5",), _ANY_CHIP, (("mthreads-gmi", "-v"),), "MUSA driver"),
    Vendor("iluvatar", ("0x1e3e",), _ANY_CHIP, (("ixsmi", "-L"),), "Iluvatar driver"),
    Vendor("enflame", ("0x1e36",), _ANY_CHIP, (("efsmi", "-v"),), "Enflame driver"),
    Vendor("biren", ("0x1ee0",), _ANY_CHIP, (("brsmi", "--version"),), "Biren driver"),
)


def examine(host: Host | None = None) -> list[Finding]:
    """Look at this host."""
    host = host or LinuxHost()
    return [
        *_system(host),
        *_chips(host),
        *_collectors(host),
        *_kernel_log(host),
        *_agent(),
        *_job_rights(host),
        *_extras(),
    ]


def is_hurting(findings: Iterable[Finding]) -> bool:
    """Say whether something is missing that chipmedic needs on this host."""
    return any(finding.state == GAP for finding in findings)


def to_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the findings for programs."""
    return [asdict(finding) for finding in findings]


def show(findings: Iterable[Finding], console: Console | None = None) -> None:
    """Print the findings for a person, each remedy below what it cures."""
    console = console or Console(highlight=False, soft_wrap=True)
    marks = {OK: "[green]ok  [/]", NOTE: "[yellow]note[/]", GAP: "[red]gap [/]"}
    several = list(findings)
    for finding in _without_absent(several):
        what = f"{finding.area}: {finding.what}"
        console.print(f"{marks[finding.state]}  {what:<28}  {escape(finding.detail)}")
        if finding.remedy:
            console.print(f"{'':36}[bold]do:[/] {escape(finding.remedy)}")
    gaps = sum(finding.state == GAP for finding in several)
    console.print(
        f"\n{gaps} of {len(several)} checks found a gap: chipmedic sees less here than it should."
        if gaps
        else "\nno gap: chipmedic sees what there is. A note is worth knowing, and no trouble."
    )


def _without_absent(findings: list[Finding]) -> Iterator[Finding]:
    """Yield the findings, with one line for all collectors that have nothing to do here."""
    absent = [f for f in findings if f.area == COLLECTORS and f.detail == Absent().detail]
    for finding in findings:
        if finding not in absent:
            yield finding
        elif finding is absent[-1]:
            names = ", ".join(one.what for one in absent)
            yield Finding(COLLECTORS, "not on this host", OK, names)


def _system(host: Host) -> Iterator[Finding]:
    version = metadata.version("chipmedic")
    yield Finding("host", "chipmedic", OK, f"{version} on Python {platform.python_version()}")
    yield Finding("host", "kernel", OK, f"{platform.system()} {platform.release()}")
    try:
        host.read("/proc/1/environ")
    except PermissionError:
        yield Finding(
            "host",
            "processes of others",
            NOTE,
            "cannot be read: which job runs on a chip stays unknown for jobs of other users",
            "run as root, with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (a container may lack them; "
            "chipmedic-agent.service has them)",
        )
    except OSError as e:
        yield Finding("host", "processes of others", NOTE, str(e))
    else:
        yield Finding("host", "processes of others", OK, "readable: jobs can be attributed")


def _chips(host: Host) -> Iterator[Finding]:
    found = list(_pci_devices(host))
    any_here = False
    for vendor in VENDORS:
        count = sum(
            1
            for maker, kind in found
            if maker in vendor.pci_vendors and kind.startswith(vendor.pci_classes)
        )
        tool = next((t for t in vendor.tools if host.which(t[0])), None)
        if not count and tool is None:
            continue
        any_here = True
        yield from _vendor(host, vendor, count, tool)
    if not any_here:
        yield Finding(
            "chips",
            "accelerators",
            NOTE,
            "none: no PCI device and no tool of a known vendor",
            "chipmedic demo shows chipmedic at work on simulated chips",
        )


def _vendor(
    host: Host, vendor: Vendor, count: int, tool: tuple[str, ...] | None
) -> Iterator[Finding]:
    if count:
        yield Finding("chips", vendor.name, OK, f"{count} on the PCI bus")
    else:
        detail = f"none on the PCI bus, but {tool and tool[0]} is installed"
        remedy = "a container or VM may hide them; else look at lspci and dmesg"
        yield Finding("chips", vendor.name, NOTE, detail, remedy)
    if tool is None:
        names = " or ".join(t[0] for t in vendor.tools)
        yield Finding(
            "chips", vendor.name, GAP, f"{names}: not installed", f"install {vendor.packages}"
        )
        return
    try:
        answer = host.run(tool, timeout_seconds=TOOL_TIMEOUT_SECONDS)
    except CollectError as e:
        yield Finding("chips", vendor.name, GAP, str(e), "look at dmesg: the driver may be stuck")
        return
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    first = lines[0] if lines else "no output"
    if answer.exit_code != 0 or not lines:
        detail = f"{' '.join(tool)}: exit status {answer.exit_code}: {first}"
        yield Finding("chips", vendor.name, GAP, detail, f"check {vendor.packages}, then dmesg")
    else:
        yield Finding("chips", vendor.name, OK, first)


def _pci_devices(host: Host) -> Iterator[tuple[str, str]]:
    """Yield (vendor, class) of each PCI device, as sysfs prints them."""
    for path in host.glob("/sys/bus/pci/devices/*/vendor"):
        try:
            yield host.read(path).strip(), host.read(path.replace("/vendor", "/class")).strip()
        except OSError:  # a device that goes away while we look is simply not there
            continue


def _collectors(host: Host) -> Iterator[Finding]:
    for name, entry in sorted(installed_collectors().items()):
        match discover(entry, host):
            case Found(collector):
                collector.close()
                detail = f"runs every {collector.period_seconds:g} s on this host"
                yield Finding(COLLECTORS, name, OK, detail)
            case Absent(detail):
                yield Finding(COLLECTORS, name, OK, detail)
            case Broken(detail):
                remedy = f"reinstall or remove {entry.value.partition(':')[0]}"
                yield Finding(COLLECTORS, name, GAP, detail, remedy)


def _kernel_log(host: Host) -> Iterator[Finding]:
    path = host.path("/dev/kmsg")
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        remedy = "in a container: give it /dev/kmsg of the host"
        yield Finding(
            "kernel log", path, GAP, "is not there: Xid and link faults stay unseen", remedy
        )
    except OSError as e:
        remedy = "run as root, or with CAP_SYSLOG (systemd/chipmedic-agent.service has it)"
        yield Finding("kernel log", path, GAP, f"cannot be read: {e.strerror}", remedy)
    else:
        yield Finding("kernel log", path, OK, "readable")


def is_agent_here() -> bool:
    """Say whether an agent answers on this host."""
    return all(finding.state != NOTE for finding in _agent())


def _agent() -> Iterator[Finding]:
    try:
        with urllib.request.urlopen(AGENT_URL, timeout=2) as response:
            answer = json.load(response)
    except (urllib.error.URLError, OSError, ValueError) as e:
        reason = getattr(e, "reason", e)
        words = getattr(reason, "strerror", None) or reason
        remedy = "systemctl enable --now chipmedic-agent (docs/operations.md)"
        yield Finding("agent", AGENT_URL, NOTE, f"no agent runs here: {words}", remedy)
        return
    state = str(answer.get("status", "unknown"))
    detail = "; ".join(map(str, answer.get("reasons", []))) or state
    yield Finding("agent", AGENT_URL, OK if state == "ok" else GAP, detail)


def _job_rights(host: Host) -> Iterator[Finding]:
    for found in job_rights.examine(host):
        state = (GAP if found.is_known else NOTE) if found.remedy else OK
        yield Finding("jobs", found.what, state, found.detail, found.remedy)


def _extras() -> Iterator[Finding]:
    needed = ("sqlalchemy", "alembic", "starlette", "uvicorn", "apprise", "httpx", "jinja2")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            "installation",
            "watchdog",
            NOTE,
            "not installed (a compute node does not need it)",
            "on the central host: pip install 'chipmedic[watchdog]'",
        )
    else:
        yield Finding("installation", "watchdog", OK, "installed")
