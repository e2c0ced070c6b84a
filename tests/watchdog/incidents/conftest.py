"""A fleet in which nothing has happened yet."""

from __future__ import annotations

import pytest

from watchdog.incidents.world import World


@pytest.fixture
def world() -> World:
    return World()
