"""Profiles of hypothesis, and the rule that nothing is left out where everything is required."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import postgres_server
from postgres_server import PostgresServer

# The same examples each time, so that what a run finds is the change's doing; `make fuzz` looks on.
settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

SHARED_PARTS = frozenset({"slurm", "systemd"})
"""Folders of tests that share one real cluster or container."""
REQUIRE_ALL = os.environ.get("CHIPMEDIC_TEST_REQUIRE_ALL") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a real chip where there is none; everything else must run.

    With several workers a file stays on one of them, and so do all tests of one real cluster or
    container, which is started once.
    """
    for item in items:
        place = item.path.parent if item.path.parent.name in SHARED_PARTS else item.path
        item.add_marker(pytest.mark.xdist_group(str(place)))
    if Path("/dev/nvidiactl").exists():
        return
    chosen = [item for item in items if item.get_closest_marker("gpu") is None]
    if left_out := [item for item in items if item not in chosen]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failure where CHIPMEDIC_TEST_REQUIRE_ALL=1 (continuous integration)."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: left out where everything is required: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why a test failed that passed when `make test` ran it once more."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed, and was run once more: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; left out where none is installed."""
    if postgres_server.binaries() is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    server = PostgresServer.create()
    try:
        server.start()
        yield server
    finally:
        server.close()
