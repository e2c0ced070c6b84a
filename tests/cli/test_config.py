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
    said = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    status, output = run(str(path))
    assert (status, output.splitlines()) == (2, [f"chipmedic: {line}" for line in said])
    assert [line.split(": ")[:2] for line in said] == [[str(path), "listen"], [str(path), "spol"]]


def test_rules_that_are_wrong_are_found_too(tmp_path: Path) -> None:
    path = tmp_path / "watchdog.toml"
    path.write_text(f'[incidents]\nrules_file = "{tmp_path}/none.toml"\n')
    status, output = run(str(path))
    assert (status, "none.toml" in output) == (2, True)


def test_the_files_that_it_names_are_looked_into(tmp_path: Path) -> None:
    agent, watchdog, wrong = tmp_path / "agent.toml", tmp_path / "watchdog.toml", tmp_path / "x"
    wrong.write_text("no certificate\n")
    agent.write_text(f'[tls]\nca_file = "{wrong}"\n')
    watchdog.write_text(
        f'[store]\nurl_file = "{wrong}"\n[http]\ntoken_file = "{tmp_path}/none"\n'
        f'certificate_file = "{wrong}"\nkey_file = "{wrong}"\n'
        f'[notify]\nlinks.key_file = "{tmp_path}"\ndeadman.url_file = "{tmp_path}"\n'
        f'external_url = "https://w"\nchannels.a.kind = "apprise"\n'
        f'channels.a.url_file = "{tmp_path}/none"\n'
    )
    status, output = run(str(agent), str(watchdog))
    said = [line.split(": ")[2] for line in output.splitlines()]
    assert (status, said) == (
        2,
        ["tls.ca_file", "store.url_file", "http.token_file", "notify.links.key_file",
         "notify.deadman.url_file", "notify.channels.a.url_file", "http.certificate_file",
         "http.key_file"],
    )  # fmt: skip


def test_whose_file_it_is_must_be_clear(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("")
    status, output = run(str(path))
    assert (status, "--of agent" in output) == (2, True)
    assert run(str(path), "--of", "watchdog") == (0, f"{path}: ok\n")
