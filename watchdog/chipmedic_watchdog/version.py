"""Which chipmedic this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Return the installed version; `source` where it runs from a checkout."""
    try:
        return version("chipmedic")
    except PackageNotFoundError:
        return "source"
