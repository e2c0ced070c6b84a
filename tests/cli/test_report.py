"""`chipmedic report` on answers of the interface; tests/system/test_report.py has the real one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from chipmedic_cli.report import WrongOption, hours, seconds_of, share, show_all, show_job


def printed(answer: dict[str, Any], show: Any = show_all) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False)
    show(answer, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def a_job(name: str, ratio: float | None, **more: Any) -> dict[str, Any]:
    return {"job": name, "is_over": False, "wall_seconds": 7200.0, "effective_ratio": ratio,
            "starts": 2, "lost_seconds": 90.0, "end_at": 0.0, "losses": [], **more}  # fmt: skip


LOSS = {
    "incident": "inc-000007", "seconds": 90.0,
    "stages": [{"phase": "detect", "seconds": 80.0}, {"phase": "restart", "seconds": 10.0}],
}  # fmt: skip
CAUSE = {"cause": "chip.[b]lost", "interruptions": 1, "lost_seconds": 90.0,
         "seconds": {"detect": 80.0, "restart": 10.0}}  # fmt: skip
VENDORS = [
    {"vendor": vendor, "jobs": 1, "wall_seconds": 7200.0, "effective_ratio": ratio,
     "lost_seconds": 45.0}
    for vendor, ratio in (("ascend", 0.98), ("nvidia", None))
]  # fmt: skip
ANSWER: dict[str, Any] = {
    "wall_seconds": 14_400.0, "effective_ratio": 0.99, "jobs_without_steps": 1,
    "lost_seconds": 90.0, "jobs_not_listed": 3, "causes": [CAUSE], "vendors": VENDORS,
    "seconds": {"productive": 14_256.0, "checkpoint": 54.0, "detect": 80.0, "decide": 0.0,
                "isolate": 0.0, "restart": 10.0, "recompute": 0.0, "unexplained": 0.0},
    "jobs": [a_job("slurm:1", 0.995), a_job("slurm:2", 0.985, losses=[LOSS], is_over=True),
             a_job("[red]evil[/]\x1b", None)],
}  # fmt: skip


def test_the_sum_comes_first_then_the_worst_job() -> None:
    text = printed(ANSWER)
    assert text.startswith("99.00 % of 4.0 h made new steps; 90.0 s lost to 1 interruption\n")
    assert text.index("slurm:2") < text.index("slurm:1") < text.index("[red]evil[/]")
    assert "90.0 s, detect, inc-000007" in text
    assert "decide" not in text, "what took no time takes no line"
    assert "tell no steps, so that what they made is unknown: 1" in text
    assert "unknown" in text
    assert "\x1b" not in text
    assert "jobs that are in the sums and not in this list: 3" in text


def test_what_the_time_was_lost_to_and_on_whose_chips() -> None:
    lines = printed(ANSWER).splitlines()
    cause = next(line for line in lines if "chip.[b]lost" in line)
    assert cause.split()[1:] == ["1", "90.0", "s", "90.0", "s", "0.62", "%", "detect"]
    assert next(line for line in lines if line.startswith("nvidia")).split()[-3] == "unknown"
    alone = printed({**ANSWER, "vendors": VENDORS[:1], "causes": []})
    assert "CHIPS OF" not in alone, "one vendor is no comparison"
    assert "LOST TO" not in alone


def test_no_job_says_how_to_get_one() -> None:
    assert "chipmedic.beat" in printed({**ANSWER, "jobs": [], "jobs_not_listed": 0})


def test_the_text_of_a_job_is_the_watchdogs_own() -> None:
    assert printed({"text": "a [b]\n  c\x07"}, show_job) == "a [b]\n  c·\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 2_592_000), ("90min", 5_400), ("12h", 43_200), ("1.5d", 129_600), ("4w", 2_419_200)],
)
def test_stretches_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-3d", "3 d", "3y", "٣d", "1e3d"])
def test_what_is_no_stretch_of_time(text: str) -> None:
    with pytest.raises(WrongOption, match="not a time like"):
        seconds_of(text)


def test_shares_are_cut_and_durations_comparable() -> None:
    assert (share(0.999999), share(1.0)) == ("99.99 %", "100.00 %")
    assert (hours(119.9), hours(120), hours(7_200)) == ("119.9 s", "2.0 min", "2.0 h")
