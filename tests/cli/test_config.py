"""`chipmedic config check` says what the daemons' own check says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from chipmedic_agent.main import main as agent_main
from chipmedic_cli.main import app
from chipmedic_watchdog.main import main as watchdog_main


def run(*argv: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["config", "check", *argv])
    return result.exit_code, result.output


def test_files_that_are_right(tmp_path: Path) -> None:
    agent, watchdog = tmp_path / "agent.toml", tmp_path / "watchdog.toml"
    agent.write_text('watchdogs = ["w:7443"]\n')
    watchdog.write_text("[liveness]\nsilence_seconds = 2\n")
    assert run(str(agent), str(watchdog)) == (0, f"{agent}: ok\n{watchdog}: ok\n")


@pytest.mark.parametrize(
    ("name", "daemon"), [("agent.toml", agent_main), ("my-watchdog.toml", watchdog_main)]
)
def test_every_problem_is_said_as_the_daemon_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, daemon: object
) -> None:
    path = tmp_path / name
    path.write_text("listen = 3\n[spol]\nx = 1\n")
    assert daemon(["--config", str(path), "--check-config"]) == 78  # type: ignore[operator]
    said = capsys.readouterr().err.partition(": ")[2]
    status, output = run(str(path))
    assert (status, output) == (2, f"chipmedic: {said}")
    assert "spol" in said


def test_rules_that_are_wrong_are_found_too(tmp_path: Path) -> None:
    path = tmp_path / "watchdog.toml"
    path.write_text(f'[incidents]\nrules_file = "{tmp_path}/none.toml"\n')
    status, output = run(str(path))
    assert (status, "none.toml" in output) == (2, True)


def test_whose_file_it_is_must_be_clear(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("")
    status, output = run(str(path))
    assert (status, "--of agent" in output) == (2, True)
    assert run(str(path), "--of", "watchdog") == (0, f"{path}: ok\n")
