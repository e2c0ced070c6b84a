"""Silences, links and test notices over HTTP: what a person does from a desk or from a phone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from chipmedic_watchdog.health import Health
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify.links import Link, LinkAct, LinkSettings, sign
from chipmedic_watchdog.notify.routes import EscalationSettings, RouteSettings
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.app import Api
from watchdog.notify import story

HERE = "http://127.0.0.1:7480"
KEY = b"0123456789abcdef"


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Api:
    (tmp_path / "key").write_bytes(KEY)
    settings = NotifySettings(
        channels={"desk": ChannelSettings(kind=ChannelKind.STDOUT)},
        external_url="https://watch.example.org",
        links=LinkSettings(key_file=str(tmp_path / "key")),
    )
    story.put_incident(database)
    story.put_fault(database)
    story.put_recovery(database, state="proposed", mode="propose")
    return Api(database, Metrics(), Health(), notify=settings)


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api.application())
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        yield client


@pytest.fixture
async def phone(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody far away, without a token."""
    transport = httpx.ASGITransport(api.application(), client=("203.0.113.9", 4711))
    async with httpx.AsyncClient(
        transport=transport, base_url="https://watch.example.org"
    ) as client:
        yield client


def silence(**values: str) -> dict[str, str]:
    return {"matchers": 'node="gpu-017"', "ends_at": f"{time.time() + 600}", "who": "mei",
            "why": "fan swap"} | values  # fmt: skip


async def test_a_silence_is_made_listed_and_ended(client: httpx.AsyncClient) -> None:
    made = await client.post("/api/v1/silences", json=silence(kind="maintenance"))
    assert made.status_code == 200, made.text
    found = made.json()
    assert (found["id"], found["state"], found["kind"]) == ("sil-000001", "active", "maintenance")
    assert found["matchers"] == ['node="gpu-017"']
    for state, count in (("active", 1), ("unexpired", 1), ("expired", 0), ("pending", 0)):
        page = (await client.get("/api/v1/silences", params={"state": state})).json()
        assert len(page["items"]) == count, state
    ended = await client.post("/api/v1/silences/sil-000001/expire", json={"who": "lin"})
    assert (ended.json()["state"], ended.json()["ended_by"]) == ("expired", "lin")
    again = await client.post("/api/v1/silences/sil-000001/expire", json={"who": "lin"})
    assert again.status_code == 409
    unknown = await client.post("/api/v1/silences/sil-9/expire", json={"who": "x"})
    assert unknown.status_code == 404


async def test_each_of_these_acts_is_in_the_audit(
    client: httpx.AsyncClient, database: Database
) -> None:
    await client.post("/api/v1/silences", json=silence())
    await client.post("/api/v1/silences/sil-000001/expire", json={"who": "lin"})
    await client.post("/api/v1/notices/test", json={"channel": "desk", "who": "mei"})
    table = schema.audit
    found = database.read_now(lambda c: list(c.execute(select(table.c.who, table.c.act))))
    assert [tuple(row) for row in found] == [
        ("mei", "silence"),
        ("lin", "expire silence"),
        ("mei", "test notice"),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"matchers": "nonsense"}, "is no matcher"),
        ({"matchers": "\n"}, "required"),
        ({"ends_at": "tomorrow"}, "not a number of UNIX seconds"),
        ({"ends_at": "nan"}, "not a number of UNIX seconds"),
        ({"ends_at": "1"}, "has passed already"),
        ({"kind": "peace"}, "not one of"),
        ({"matchers": 'ndoe="n1"'}, "no incident has a label 'ndoe'; did you mean node?"),
        ({"matchers": 'color!="red"'}, "There are: severity, kind, cause, incident, node, job"),
    ],
)
async def test_a_silence_that_is_none(
    client: httpx.AsyncClient, values: dict[str, str], words: str
) -> None:
    answer = await client.post("/api/v1/silences", json=silence(**values))
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("matchers", "notes"),
    [
        ('node="gpu-017"', []),
        ('rack="r3"', []),
        ('node=~"gpu-.*"\nkind=~"memory.*"', []),
        ('node="gpu-017"\nuser!="nobody"', []),
        ('node="gpu-17"', ['matches no open incident and no known node: node="gpu-17"']),
        ('node=~"gpu-017|gpu-18"',
         ['matches no open incident and no known node: node="gpu-18"']),
        ('kind="memory.lost"', ['matches no open incident: kind="memory.lost"']),
        ('rack="r4"', ['matches no open incident and no known node: rack="r4"']),
    ],
)  # fmt: skip
async def test_what_a_silence_does_not_reach_is_said(
    client: httpx.AsyncClient, database: Database, matchers: str, notes: list[str]
) -> None:
    story.put_node(database, "gpu-017", rack="r3")
    made = await client.post("/api/v1/silences", json=silence(matchers=matchers))
    assert (made.status_code, made.json()["notes"]) == (200, notes)


async def test_what_is_held_is_shown(client: httpx.AsyncClient, database: Database) -> None:
    hold = {"incident": "inc-000042", "held_by": "sil-000001", "why": "fan swap", "since": 1.0,
            "until": 2.0, "revision": 1}  # fmt: skip
    story.put(database, schema.notice_holds, **hold)
    page = (await client.get("/api/v1/incidents")).json()
    assert page["items"][0]["held_by"] == "sil-000001"
    assert (await client.get("/api/v1/incidents/inc-000042")).json()["held"] == hold


async def test_a_test_notice_goes_into_the_outbox(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/notices/test", json={"channel": "desk", "who": "mei"})
    assert (answer.json()["state"], answer.json()["occasion"]) == ("pending", "test")
    wrong = await client.post("/api/v1/notices/test", json={"channel": "dsek", "who": "mei"})
    assert wrong.json()["detail"] == "there is no channel 'dsek'; there are: desk"


async def test_a_route_is_tried(client: httpx.AsyncClient, api: Api) -> None:
    api.notify = NotifySettings(
        channels={name: ChannelSettings(kind=ChannelKind.STDOUT) for name in ("chat", "pager")},
        routes=(
            RouteSettings(
                matchers=('severity="critical"',),
                channels=("pager",),
                escalations=(EscalationSettings(after_seconds=600, channels=("chat",)),),
            ),
        ),
    )

    async def tried(*labels: str) -> dict[str, Any]:
        query = {"labels": "\n".join(labels)}
        answer = await client.get("/api/v1/notices/route", params=query)
        return dict(answer.json())

    found = await tried("severity=critical", "node=n1", "node=n2")
    assert found["channels"] == [
        {"channel": "pager", "route": 'severity="critical"', "digest_seconds": 0.0}
    ]
    assert found["escalations"] == [{"after_seconds": 600.0, "channels": ["chat"]}]
    every = await tried("severity=warning")
    assert [one["channel"] for one in every["channels"]] == ["chat", "pager"]
    assert "is no matcher" in (await tried("nonsense"))["detail"]
    assert "is not label=value" in (await tried("a!=b"))["detail"]


async def test_notices_since_a_time(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/notices/test", json={"channel": "desk", "who": "mei"})
    for since, count in ((f"{time.time() - 60}", 1), (f"{time.time() + 60}", 0)):
        page = (await client.get("/api/v1/notices", params={"since": since})).json()
        assert len(page["items"]) == count
    assert (await client.get("/api/v1/notices", params={"since": "x"})).status_code == 400


def path(act: LinkAct = LinkAct.ACKNOWLEDGE, **values: Any) -> str:
    target = "inc-000042" if act is LinkAct.ACKNOWLEDGE else "rec-000007"
    link = {"id": f"notice-{act}", "act": act, "target": target,
            "expires_at": int(time.time()) + 60} | values  # fmt: skip
    return f"/act/{sign(Link(**link), KEY)}"


def incident(database: Database) -> dict[str, Any]:
    return story.rows(database, schema.incidents)[0]


async def test_reading_a_link_changes_nothing_and_the_button_works_once(
    phone: httpx.AsyncClient, database: Database
) -> None:
    link = path()
    for _ in range(3):  # a chat's preview, a mail scanner, the person
        page = await phone.get(link)
        assert page.status_code == 200
        assert "Look after inc-000042" in page.text
        assert page.headers["cache-control"] == "no-store"
    assert (await phone.head(link)).status_code == 200
    assert incident(database)["state"] == "open"
    done = await phone.post(link, data={"who": "Mei <b>"})
    assert done.status_code == 200
    assert "Mei &lt;b&gt; (by link) looks after inc-000042" in done.text
    assert incident(database)["acknowledged_by"] == "Mei <b> (by link)"
    again = await phone.post(link, data={"who": "Lin"})
    assert again.status_code == 409
    assert "has been used: Mei &lt;b&gt;" in again.text
    assert incident(database)["acknowledged_by"] == "Mei <b> (by link)"


async def test_a_recovery_is_approved_from_a_phone(
    phone: httpx.AsyncClient, database: Database
) -> None:
    answer = await phone.post(path(LinkAct.APPROVE, language="zh"), data={"who": "梅"})
    assert answer.status_code == 200
    assert "梅 (by link) 已批准：rec-000007" in answer.text
    (recovery,) = story.rows(database, schema.recoveries)
    assert (recovery["state"], recovery["evidence"]["approved_by"]) == ("planned", "梅 (by link)")
    assert (await phone.get(path())).cookies.get("chipmedic_name") is None
    assert "%E6%A2%85" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"expires_at": 1}, 410, "expired"),
        ({"target": "inc-000099"}, 409, "there is no incident"),
    ],
)
async def test_a_link_that_does_not_act_says_why(
    phone: httpx.AsyncClient, database: Database, values: dict[str, Any], status: int, words: str
) -> None:
    answer = await phone.post(path(**values), data={"who": "Mei"})
    assert answer.status_code == status
    assert words in answer.text
    assert incident(database)["state"] == "open"


async def test_a_link_of_somebody_else_and_a_form_of_megabytes_do_nothing(
    phone: httpx.AsyncClient, database: Database
) -> None:
    assert (await phone.get("/act/abc.def")).status_code == 403
    assert (await phone.post("/act/abc.def", data={"who": "x"})).status_code == 403
    assert (await phone.post(path(), content=b"who=" + b"x" * 10_000)).status_code == 413
    assert incident(database)["state"] == "open"


async def test_a_refused_act_does_not_use_the_link_up(
    phone: httpx.AsyncClient, database: Database
) -> None:
    where = schema.recoveries.c.id == "rec-000007"
    story.change(database, schema.recoveries, where, state="held")
    link = path(LinkAct.APPROVE)
    assert (await phone.post(link, data={"who": "Mei"})).status_code == 409
    story.change(database, schema.recoveries, where, state="proposed")
    assert (await phone.post(link, data={"who": "Mei"})).status_code == 200


async def test_nothing_else_is_open_to_a_phone(phone: httpx.AsyncClient) -> None:
    for url in ("/", "/api/v1/silences", "/api/v1/notices"):
        assert (await phone.get(url)).status_code == 401
    assert (await phone.post("/api/v1/silences", json=silence())).status_code == 401


async def test_without_a_key_no_link_works(
    phone: httpx.AsyncClient, api: Api, database: Database
) -> None:
    api.notify = NotifySettings()
    assert (await phone.post(path(), data={"who": "Mei"})).status_code == 403
    assert incident(database)["state"] == "open"


async def test_a_channel_that_fails_is_named_on_the_page_and_in_the_api(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = (await client.get("/api/v1/channels")).json()
    nothing = {"pending": 0, "failing": 0, "failing_since": None, "last_error": ""}
    assert answer["items"] == [{"channel": "desk", "kind": "stdout", **nothing}]
    assert "does not deliver" not in (await client.get("/")).text
    for number, attempts in enumerate((0, 4)):
        story.put(database, schema.notices, id=f"n{number}", incident="inc-000042",
                  occasion="opened", channel="desk", created_at=story.NOW, state="pending",
                  attempts=attempts, next_attempt_at=story.NOW + 9, severity=3, title="", body="",
                  last_error="refused <b>" if attempts else "", data={})  # fmt: skip
    (found,) = (await client.get("/api/v1/channels")).json()["items"]
    assert found == {"channel": "desk", "kind": "stdout", "pending": 2, "failing": 1,
                     "failing_since": story.NOW, "last_error": "refused <b>"}  # fmt: skip
    page = (await client.get("/")).text
    assert "channel desk does not deliver since" in page
    assert "1 notices wait: refused &lt;b&gt;" in page
