"""A mistake in `[recover]` is an error with its place, never another mode than the one meant."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chipmedic import config
from chipmedic.errors import ConfigError
from chipmedic.recoverer import Rung
from chipmedic_watchdog.recover.modes import mode_for
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings, RungSettings


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


def test_ladders_and_rungs() -> None:
    settings = load("""
        [[recover.ladders]]
        kinds = ["job.*"]
        rungs = ["in_place", "requeue"]
        [recover.rungs.in_place]
        attempts = 2
        timeout_seconds = 90
    """)
    (ladder,) = settings.ladders
    assert ladder.rungs == (Rung.IN_PLACE, Rung.REQUEUE)
    assert settings.rung(Rung.IN_PLACE) == RungSettings(attempts=2, timeout_seconds=90.0)
    assert settings.rung(Rung.REPLACE).cool_down_seconds == 1800


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
        ('[[recover.ladders]]\nkinds = ["*"]\nrungs = ["requeue", "in_place"]', "in the order"),
        ('[[recover.ladders]]\nkinds = ["*"]\nrungs = ["reque"]', "'reque' is not one of"),
        ('[[recover.ladders]]\nkinds = ["jobs.*"]\nrungs = []', "'jobs.*' matches no kind"),
        ("[recover.rungs.in_place]\nattempts = 0", "0 is not a positive number"),
        ("[recover.rungs.inplace]\nattempts = 1", "inplace"),
        ("[recover.black_hole]\njobs = 1", "at least 2, or 0"),
    ],
)
def test_a_mistake_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load("[recover]\n" + text)
    assert problem in str(error.value)
