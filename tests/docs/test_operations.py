"""docs/operations.md and the example configurations say what the code does."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from chipmedic.config import loads
from chipmedic_agent.config import AgentSettings
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.incidents.rules import read

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/operations.md").read_text()
DAEMONS = {"agent": AgentSettings, "watchdog": WatchdogSettings}
NAMED = {
    "": "Top of the file",
    "collectors": "`[collectors.NAME]`",
    "detectors.page_limits": "`[detectors.page_limits.VENDOR]`",
    "notify.channels": "`[notify.channels.NAME]`",
    "notify.routes": "`[[notify.routes]]`",
    "notify.routes.escalations": "`[[notify.routes.escalations]]`",
    "recover.budgets": "`[[recover.budgets]]`",
    "recover.ladders": "`[[recover.ladders]]`",
    "recover.rules": "`[[recover.rules]]`",
    "recover.rungs": "`[recover.rungs.NAME]`",
}
"""Headings of sections that are more than their own name."""
HOST_NAME = "the host's name"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
SETTING = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)
UNIT_LIMITS = {"chipmedic-agent.service", "chipmedic-watchdog.service", "chipmedic.slice"}


@pytest.fixture(autouse=True)
def _as_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_reference_has_every_key_with_its_default(daemon: str) -> None:
    part = MANUAL.partition(f"### {daemon}.toml\n")[2].partition("\n### ")[0]
    assert part, "no reference"
    told = {
        heading.strip(): {key: default for key, default, _ in ROW.findall(table)}
        for heading, _, table in (s.partition("\n") for s in part.split("\n#### ")[1:])
    }
    assert told == _sections(DAEMONS[daemon])


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_example_as_shipped_is_the_default(daemon: str, tmp_path: Path) -> None:
    path = ROOT / "systemd" / f"{daemon}.toml"
    assert loads(path.read_text(), DAEMONS[daemon]) == DAEMONS[daemon]()
    assert _check(daemon, path) == 0


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_example_with_every_setting_switched_on_is_right(daemon: str, tmp_path: Path) -> None:
    text = (ROOT / "systemd" / f"{daemon}.toml").read_text()
    everything = SETTING.sub("", text)
    assert len(tomllib.loads(everything)) >= 4
    assert not [line for line in everything.splitlines() if re.match(r"#\S", line)], "not taken in"
    path = tmp_path / "all.toml"
    # Secrets and certificates that it names lie on no machine; `config check` would say so.
    assert loads(everything, DAEMONS[daemon]) != DAEMONS[daemon]()
    path.write_text(everything + "\n[nonsense]\n")
    assert _check(daemon, path) != 0


def test_toml_in_the_manual_is_right() -> None:
    """Each example belongs to the watchdog; the agent's are single lines in shell examples."""
    examples = re.findall(r"^```toml\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        if "[[rules]]" in example:
            assert read(example, path="manual").id == "our-site/1"
        else:
            loads(example, WatchdogSettings)
    for line in re.findall(r"^echo '(.*)' \| sudo tee -a /etc/chipmedic/agent.toml", MANUAL, re.M):
        loads(line, AgentSettings)


def test_the_limits_in_the_manual_are_those_of_the_units() -> None:
    mib = {
        re.search(r"^MemoryMax=(\d+)([MG])$", text, re.MULTILINE)
        for text in (_unit(name) for name in UNIT_LIMITS)
    }
    told = {
        int(number) * (1024 if unit == "G" else 1)
        for number, unit in (m.groups() for m in mib if m)
    }
    assert told == {512, 3 * 1024, 4 * 1024}
    for words in ("| 512 MiB | half a core |", "| 3 GiB | two cores |", "| 4 GiB | two and a half"):
        assert words in MANUAL
    quotas = {name: re.search(r"^CPUQuota=(\d+)%$", _unit(name), re.M) for name in UNIT_LIMITS}
    assert {name: int(match[1]) for name, match in quotas.items() if match} == {
        "chipmedic-agent.service": 50,
        "chipmedic-watchdog.service": 200,
        "chipmedic.slice": 250,
    }


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in MANUAL.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", MANUAL):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / "docs" / target).exists(), target


def _unit(name: str) -> str:
    return (ROOT / "systemd" / name).read_text()


def _check(daemon: str, path: Path) -> int:
    code = f"from chipmedic_{daemon}.main import main; raise SystemExit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, "--check-config", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(ended.stdout, ended.stderr)  # noqa: T201 - shown when the test fails
    return ended.returncode


def _sections(settings: type, name: str = "") -> dict[str, dict[str, str]]:
    """Return the keys of each section with their defaults, as the manual writes them."""
    hints = get_type_hints(settings)
    keys: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for field in dataclasses.fields(settings):
        inner = [
            hint
            for hint in (hints[field.name], *get_args(hints[field.name]))
            if dataclasses.is_dataclass(hint)
        ]
        if inner:
            found |= _sections(inner[0], f"{name}.{field.name}".lstrip("."))  # type: ignore[arg-type]
        elif (name, field.name) == ("", "node"):
            keys[field.name] = HOST_NAME
        else:
            keys[field.name] = _default(field)
    return ({NAMED.get(name, f"`[{name}]`"): keys} if keys else {}) | found


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if value in (None, "", (), {}):
        return "unset"
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and not isinstance(value, Enum):
        return f"{value:.12g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"'
