"""The report as a page: complete in itself, harmless whatever jobs are called, true to the data."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from chipmedic_watchdog.health import Health
from chipmedic_watchdog.ledger.account import account
from chipmedic_watchdog.ledger.history import History
from chipmedic_watchdog.ledger.phases import LOST
from chipmedic_watchdog.ledger.text import LANGUAGES, PHASES
from chipmedic_watchdog.ledger.timeline import LEAST_WIDTH, TICKS_MAX, WIDTH, pieces, ticks
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.retention import purge_jobs
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.app import Api
from chipmedic_watchdog.web.report_words import WORDS
from ledger_histories import HISTORIES

EVIL = "slurm:<script>alert(1)</script>\"'"


@given(HISTORIES)
@settings(max_examples=60, deadline=None)
def test_every_stretch_is_inside_of_the_picture_and_no_loss_is_too_thin(made: History) -> None:
    one = account(made)
    if one is None:
        return
    bar = pieces(one, one.began_at, one.end_at)
    assert sum(i.seconds > 0 for i in one.intervals) == len(bar)
    for piece in bar:
        assert 0 <= piece.x <= piece.x + piece.width <= WIDTH + 0.02
        assert piece.phase not in LOST or piece.width >= LEAST_WIDTH
    order = [piece.phase in LOST for piece in bar]
    assert order == sorted(order), "what was lost is drawn over the rest"


@given(st.floats(0, 4e9), st.floats(0.001, 3e9))
def test_the_axis_has_few_marks_and_they_are_in_order(begin: float, seconds: float) -> None:
    made = ticks(begin, begin + seconds)
    assert len(made) <= TICKS_MAX + 1
    assert [tick.x for tick in made] == sorted(tick.x for tick in made)
    assert all(0 <= tick.x <= WIDTH for tick in made)


def test_the_words_are_complete() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    assert set(WORDS) == set(PHASES) == set(LANGUAGES)


class Tags(HTMLParser):
    """Counts tags, and holds that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def client(database: Database) -> httpx.AsyncClient:
    began = time.time() - 5_000
    rows = [
        {"job": EVIL, "at": began + at, "step": step, "attempt": attempt, "mark": mark}
        for at, step, attempt, mark in (
            (0, 0, 0, "start"), (500, 500, 0, ""), (590, 490, 1, "start"), (600, 500, 1, ""),
            (1000, 900, 1, ""),
        )
    ]  # fmt: skip
    database.write_now(lambda c: c.execute(insert(schema.job_progress), rows))
    incident = {
        "id": "inc-1", "state": "resolved", "severity": 3, "kind": "chip.lost", "cause": "single/1",
        "title": "<b>gpu-1</b>", "jobs": [EVIL], "fault_at": began + 501, "opened_at": began + 502,
        "updated_at": began + 700, "resolved_at": began + 700,
    }  # fmt: skip
    database.write_now(lambda c: c.execute(insert(schema.incidents), [incident]))
    transport = httpx.ASGITransport(Api(database, Metrics(), Health()).application())
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7480")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("query", [{}, {"job": EVIL}])
async def test_a_page_is_whole_and_harmless(
    client: httpx.AsyncClient, language: str, query: dict[str, str]
) -> None:
    answer = await client.get("/report", params={"language": language, **query})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page, tags = answer.text, Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("svg") == 1
    assert not {"script", "link", "img", "iframe", "b"} & set(tags.seen)
    assert not re.search(r"https?://|url\(|@import", page), "it needs nothing from elsewhere"
    assert "inc-1: &lt;b&gt;gpu-1" in page
    assert PHASES[language]["recompute"] in page
    assert "90.0 %" in page
    assert 'class="detect"' in page


async def test_what_there_is_to_say_of_nothing(client: httpx.AsyncClient) -> None:
    assert "chipmedic.beat" in (await client.get("/report", params={"since": 9e10})).text
    assert (await client.get("/report", params={"job": "slurm:0"})).status_code == 404
    for since in ("1e30", "nan", "long ago"):
        assert (await client.get("/report", params={"since": since})).status_code == 400


async def test_a_job_of_which_only_the_sums_are_left(
    client: httpx.AsyncClient, database: Database
) -> None:
    database.write_now(lambda c: purge_jobs(c, time.time()))
    assert WORDS["en"]["archived_job"] in (await client.get("/report", params={"job": EVIL})).text
    assert (
        "Jobs of which only the sums are still stored, not in the lists: 1."
        in (await client.get("/report")).text
    )


async def test_a_job_without_steps_is_unknown(
    client: httpx.AsyncClient, database: Database
) -> None:
    table = schema.job_progress
    database.write_now(lambda c: c.execute(update(table).values(step=None)))
    page = (await client.get("/report")).text
    assert WORDS["en"]["unknown"] in page
    assert "Jobs that tell no steps, so that what they made is unknown: 1." in page
