"""Addresses as configurations name them: `host:port`."""

from __future__ import annotations

import ipaddress


def split_address(text: str) -> tuple[str, int]:
    """Take `host:port` or `[v6]:port` apart.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not is_bracketed:
        raise ValueError(f"{text!r} is not host:port; an IPv6 address stands in brackets")
    return (host[1:-1] if is_bracketed else host), int(port)


def is_loopback(host: str) -> bool:
    """Tell whether this name leads to this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
