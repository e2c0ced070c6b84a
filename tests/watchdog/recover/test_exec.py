"""The adapter for programs, with real programs: placeholders, exit codes, deadlines, no shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Step, StepKind
from chipmedic_watchdog.recover.exec import Exec
from chipmedic_watchdog.recover.settings import ExecSettings
from waiting import PATIENCE_SECONDS

REQUEST = RecoveryRequest(
    incident="inc-000003",
    reason="chipmedic:inc-000003 chip.lost; $(touch owned)",
    nodes=("n1",),
    jobs=("local:pretrain",),
    recovery="rec-000009",
)


def program(folder: Path, body: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def planned(settings: ExecSettings) -> tuple[Exec, list[Step]]:
    adapter = Exec(settings)
    return adapter, adapter.plan(REQUEST)


def test_arguments_reach_the_programs_as_they_are(tmp_path: Path) -> None:
    path = program(tmp_path, f'for a in "$@"; do echo "$a" >> {tmp_path}/args; done; echo "$SITE"')
    settings = ExecSettings(
        isolate=(path, "out", "{node}", "{reason}"),
        restart=(path, "again", "{job}", "{incident}", "{recovery}"),
        env={"SITE": "hall 2"},
    )
    adapter, steps = planned(settings)
    assert [adapter.do(step).detail for step in steps] == ["hall 2", "hall 2"]
    assert (tmp_path / "args").read_text().splitlines() == [
        "out",
        "n1",
        "chipmedic:inc-000003 chip.lost; $(touch owned)",
        "again",
        "local:pretrain",
        "inc-000003",
        "rec-000009",
    ]
    assert steps[0].description.startswith("isolate n1: ")


@pytest.mark.parametrize(
    ("body", "is_done", "detail"),
    [
        ("echo one; echo stopped 8 ranks", True, "stopped 8 ranks"),
        ("echo 3 ranks left >&2; exit 75", False, "3 ranks left"),
        ("exit 75", False, "is not done yet"),
    ],
)
def test_exit_codes(tmp_path: Path, body: str, is_done: bool, detail: str) -> None:
    adapter, (isolate, _) = planned(
        ExecSettings(isolate=(program(tmp_path, body),), restart=("true",))
    )
    result = adapter.do(isolate)
    assert (result.is_done, detail in result.detail) == (is_done, True)


@pytest.mark.parametrize(
    ("argv", "body", "words", "is_permanent"),
    [
        (None, "echo no such node >&2; exit 4", "ended with 4: no such node", False),
        (None, "exec sleep 3600", "no answer in 0.3 s", False),
        (("/nowhere/take-out",), "", "not installed", True),
    ],
)
def test_a_program_that_fails(
    tmp_path: Path, argv: tuple[str, ...] | None, body: str, words: str, is_permanent: bool
) -> None:
    settings = ExecSettings(
        isolate=argv or (program(tmp_path, body),),
        restart=("true",),
        command_timeout_seconds=0.3 if "0.3 s" in words else PATIENCE_SECONDS,
    )
    adapter, (isolate, _) = planned(settings)
    with pytest.raises(DeliveryFailed, match=words) as failed:
        adapter.do(isolate)
    assert failed.value.is_permanent == is_permanent


def test_confirm_asks_its_own_program(tmp_path: Path) -> None:
    path = program(tmp_path, f"test -e {tmp_path}/is-out || exit 75")
    settings = ExecSettings(isolate=("true",), restart=("true",), confirm_isolate=(path,))
    adapter, (isolate, restart) = planned(settings)
    assert not adapter.confirm(isolate).is_done
    (tmp_path / "is-out").touch()
    assert adapter.confirm(isolate).is_done
    assert adapter.confirm(restart).is_done, "without a program the end of `restart` counts"


def test_a_program_that_is_needed_and_not_configured_is_said_at_the_plan() -> None:
    with pytest.raises(DeliveryFailed, match=r"\[recover.exec\] restart is not configured"):
        planned(ExecSettings(isolate=("true",)))


def test_give_back_undoes_an_isolation(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo back $1 >> {tmp_path}/back")
    adapter = Exec(ExecSettings(give_back=(path, "{node}")))
    step = Step(kind=StepKind.RETURN, target="n1", description="", timeout_seconds=5)
    assert adapter.do(step).is_done
    assert (tmp_path / "back").read_text() == "back n1\n"
