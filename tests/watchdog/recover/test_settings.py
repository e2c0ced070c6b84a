"""A mistake in `[recover]` is an error with its place, never another mode than the one meant."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chipmedic import config
from chipmedic.errors import ConfigError
from chipmedic_watchdog.recover.modes import mode_for
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings


@dataclass(frozen=True)
class File:
    recover: RecoverSettings = field(default_factory=RecoverSettings)


def load(text: str) -> RecoverSettings:
    return config.loads(text, File).recover


def test_the_default_only_tells() -> None:
    settings = load("")
    assert mode_for(settings, "chip.lost") == (Mode.NOTIFY, "default")
    assert (settings.slurm, settings.exec) == (None, None)


def test_a_whole_section() -> None:
    settings = load("""
        [recover]
        mode = "propose"
        [[recover.rules]]
        kinds = ["memory.*", "chip.lost"]
        mode = "act"
        [recover.slurm]
        fence = ["/usr/sbin/power-off", "{node}"]
        [recover.exec]
        isolate = ["/opt/out", "{node}", "{reason}"]
        restart = ["/opt/again", "{job}"]
    """)
    assert mode_for(settings, "memory.contained") == (Mode.ACT, "memory.*")
    assert mode_for(settings, "nic.down") == (Mode.PROPOSE, "default")
    assert settings.exec is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('mode = "off"', "recover.mode: 'off' is not one of: observe, notify, propose, act"),
        ('modes = "act"', "recover.modes: unknown key; did you mean mode?"),
        ('[[recover.rules]]\nkinds = ["chip.lsot"]\nmode = "act"', "'chip.lsot' matches no kind"),
        ('[[recover.rules]]\nkinds = ["chip.*"]\nmode = "atc"', "rules[0].mode: 'atc' is not one"),
        ('[[recover.rules]]\nkinds = []\nmode = "act"', "at least one pattern"),
        ("maximum_isolated_nodes = 0", "maximum_isolated_nodes: 0 is not a positive number"),
        ("maximum_isolated_percent = 101", "more than 100"),
        ('[recover.exec]\nisolate = "out {node}"', "is not a list of texts"),
        ('[recover.exec]\nisolate = ["out", "{job}"]', "{job} is not a placeholder here"),
        ('[recover.exec]\nrestart = ["x", "{job.a}"]', "{job.a} is not a placeholder here"),
        ("[recover.slurm]\ncommand_timeout_seconds = -1", "-1 is not a positive number"),
    ],
)
def test_a_mistake_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load("[recover]\n" + text)
    assert problem in str(error.value)
