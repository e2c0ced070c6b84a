"""One root, one set of wheels for all tests of this folder."""

from __future__ import annotations

import pytest

from system.systemd.container import why_not
from system.systemd.supplies import Supplies, gather


@pytest.fixture(scope="session")
def supplies(tmp_path_factory: pytest.TempPathFactory) -> Supplies:
    """A Debian root and the wheels to install from; made once, then cached."""
    if reason := why_not():
        pytest.skip(reason)
    return gather(tmp_path_factory.mktemp("wheel"))
