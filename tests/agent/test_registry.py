"""The wall around collectors that cannot be loaded or asked."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Self

import pytest

from chipmedic.collector import Collector
from chipmedic.errors import CollectError, ToolBlocked, ToolMissing
from chipmedic.host import Host
from chipmedic.model import Scan
from chipmedic.testing import FakeHost
from chipmedic_agent.registry import (
    GROUP,
    Absent,
    Broken,
    Found,
    discover,
    installed_collectors,
    unique,
)


class Acme(Collector):
    vendor = "acme"
    error: BaseException | None = None
    is_here = True

    def __init__(self) -> None:
        self.resumed: str | None = None

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        del host
        if cls.error is not None:
            raise cls.error
        return cls() if cls.is_here else None

    def resume(self, cursor: str) -> None:
        self.resumed = cursor

    def scan(self) -> Scan:
        return Scan(source="acme", at=0.0)


@pytest.fixture
def acme() -> Iterator[type[Acme]]:
    """Publish a fresh collector class as the module `acme_for_test`."""

    class Fresh(Acme):
        pass

    module = types.ModuleType("acme_for_test")
    module.Acme = Fresh  # type: ignore[attr-defined]
    module.number = 7  # type: ignore[attr-defined]
    sys.modules["acme_for_test"] = module
    yield Fresh
    del sys.modules["acme_for_test"]


def entry(value: str = "acme_for_test:Acme", name: str = "acme") -> EntryPoint:
    return EntryPoint(name, value, GROUP)


@pytest.mark.usefixtures("acme")
def test_a_source_that_is_here_goes_on_from_its_cursor() -> None:
    found = discover(entry(), FakeHost(), "line 7")
    assert isinstance(found, Found)
    assert isinstance(found.collector, Acme)
    assert found.collector.resumed == "line 7"


def test_a_source_that_is_not_here(acme: type[Acme]) -> None:
    acme.is_here = False
    assert discover(entry(), FakeHost()) == Absent()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ToolMissing("acme-smi: not installed"), Absent("acme-smi: not installed")),
        (CollectError("driver down"), Broken("driver down")),
        (ToolBlocked("no answer"), Broken("no answer", is_blocked=True)),
    ],
)
def test_a_foreseen_error(acme: type[Acme], error: Exception, expected: object) -> None:
    acme.error = error
    assert discover(entry(), FakeHost()) == expected


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit(1), ImportError("libacme")])
def test_a_defect_is_kept_for_the_log(acme: type[Acme], error: BaseException) -> None:
    acme.error = error
    answer = discover(entry(), FakeHost())
    assert isinstance(answer, Broken)
    assert answer.defect is error


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    "value", ["no_such_module_at_all:Acme", "acme_for_test:Nobody", "acme_for_test:number"]
)
def test_what_cannot_be_loaded_is_broken(value: str) -> None:
    assert isinstance(discover(entry(value), FakeHost()), Broken)


def test_of_two_with_one_name_the_first_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        known = unique([entry(), entry("other:Acme")])
    assert known == {"acme": entry()}
    assert "the name belongs to acme_for_test:Acme" in caplog.text


def test_ours_are_published_as_a_third_partys_would_be() -> None:
    assert {"nvidia", "ascend", "kernel_log", "host"} <= installed_collectors().keys()
