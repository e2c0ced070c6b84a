"""The NVIDIA GPUs that PCI and /dev show; needs no driver and no tool."""

from __future__ import annotations

from chipmedic.host import Host
from chipmedic_collectors.values import normalise_pci

DEVICES = "/sys/bus/pci/devices"
VENDOR_NVIDIA = "0x10de"
CLASSES = ("0x0300", "0x0302")
"""Display controller, 3D controller; not the audio function or an NVSwitch."""
GIVEN_AWAY = "/sys/bus/pci/drivers/vfio-pci"
"""Devices here belong to virtual machines; the host is not to touch them."""


DRIVER_NODES = ("/dev/nvidia*", "/dev/dxg", "/dev/nvhost*")
"""Device files of the driver, of WSL, of Tegra: where one is, NVML may answer without PCI."""


def has_driver_node(host: Host) -> bool:
    """Say whether there is a device file through which NVML might work."""
    return any(host.glob(pattern) for pattern in DRIVER_NODES)


def gpu_addresses(host: Host) -> tuple[str, ...]:
    """Return the addresses of the GPUs that this host may use, `dddd:bb:dd.f`, in bus order."""
    given_away = {path.rpartition("/")[2] for path in host.glob(f"{GIVEN_AWAY}/*")}
    addresses = []
    for folder in host.glob(f"{DEVICES}/*"):
        name = folder.rpartition("/")[2]
        try:
            is_gpu = host.read(f"{folder}/vendor").strip() == VENDOR_NVIDIA and host.read(
                f"{folder}/class"
            ).startswith(CLASSES)
        except OSError:  # the device is being removed, or its folder is not ours to read
            continue
        address = normalise_pci(name) if is_gpu and name not in given_away else None
        if address is not None:
            addresses.append(address)
    return tuple(addresses)
