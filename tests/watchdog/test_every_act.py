"""Whatever a person does over the interface is in the audit, under the person's name."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.sessions import Session, Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.app import Api
from waiting import eventually
from watchdog.notify import story

WHO = {"who": "mei"}
WHY = {**WHO, "why": "a good reason"}
ENDS = f"{time.time() + 86_400}"  # the whole suite runs meanwhile


@dataclass(frozen=True)
class Act:
    """One act of the interface, as a person does it."""

    name: str
    path: str
    body: dict[str, str]


ACTS = (
    Act("acknowledge", "incidents/inc-000042/acknowledge", WHY),
    Act("resolve", "incidents/inc-000043/resolve", WHY),
    Act("approve_recovery", "recoveries/rec-000101/approve", WHO),
    Act("decline_recovery", "recoveries/rec-000102/decline", WHY),
    Act("retry_recovery", "recoveries/rec-000103/retry", WHO),
    Act("stop_recovery", "recoveries/rec-000104/stop", WHY),
    Act("give_back", "nodes/gpu-017/give-back", WHY),
    Act("hold", "safety/hold", WHY),
    Act("release", "safety/release", WHY),
    Act("reset_breaker", "safety/reset-breaker", WHY),
    Act("add_silence", "silences", {**WHY, "matchers": 'node="x"', "ends_at": ENDS}),
    Act("expire_silence", "silences/sil-000001/expire", WHO),
    Act("test_notice", "notices/test", {**WHO, "channel": "desk"}),
    Act("collect_now", "nodes/gpu-018/collect", WHO),
    Act("create_operator_token", "tokens/operator", {**WHO, "role": "view", "name": "lin"}),
    Act("create_join_token", "tokens/join", {**WHO, "node": "gpu-019"}),
    Act("revoke_token", "tokens/{token}/revoke", WHY),
    Act("revoke_node", "nodes/gpu-020/revoke", WHY),
)


def fill(database: Database) -> None:
    for incident in ("inc-000042", "inc-000043", "inc-000044", "inc-000045"):
        story.put_incident(database, incident)
    for number, (incident, state, mode) in enumerate(
        (("inc-000042", "proposed", "propose"), ("inc-000043", "proposed", "propose"),
         ("inc-000044", "held", "act"), ("inc-000045", "planned", "act")), start=101,
    ):  # fmt: skip
        story.put_recovery(database, f"rec-{number:06d}", incident=incident, state=state, mode=mode)
    story.put_isolation(database)
    story.put(
        database, schema.recovery_switches, name="breaker", state="open", at=1.0, who="", why=""
    )
    story.put(
        database, schema.certificates, serial="07", node="gpu-020", issued_at=1.0,
        expires_at=time.time() + 86_400,
    )  # fmt: skip


@pytest.fixture
async def api(database: Database, tmp_path: Path) -> Api:
    fill(database)
    sessions = Sessions(Clock(), 1.0)
    sessions.open(
        Session(node="gpu-018", machine_id="", epoch="e", peer="ipv4:10.0.0.1:1", opened_at=1.0)
    )
    return Api(
        database, Metrics(), Health(), sessions=sessions,
        notify=NotifySettings(channels={"desk": ChannelSettings(kind=ChannelKind.STDOUT)}),
        authority=Authority(tmp_path / "authority"),
    )  # fmt: skip


async def answer_as_agent(api: Api) -> None:
    assert api.sessions is not None
    commands = api.sessions.live["gpu-018"].commands
    await eventually(lambda: commands)
    for waiting in commands.values():
        waiting.set_result(pb.CommandResult(ok=True, detail="looked", is_final=True))


async def test_every_act_is_in_the_audit_under_its_name(api: Api, database: Database) -> None:
    transport = httpx.ASGITransport(api.application())
    silent: list[str] = []
    made: dict[str, Any] = {}
    agent = asyncio.create_task(answer_as_agent(api))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7480") as client:
        for act in ACTS:
            before = len(story.rows(database, schema.audit))
            path = act.path.format(token=made.get("id", ""))
            answer = await client.post(f"/api/v1/{path}", json=act.body)
            assert answer.status_code == 200, f"{act.name}: {answer.text}"
            made = answer.json() if act.name == "create_operator_token" else made
            new = story.rows(database, schema.audit)[before:]
            if "mei" not in {row["who"] for row in new}:
                silent.append(f"{act.name}: {new}")
    await agent
    assert silent == []


def test_no_act_is_left_out_here(api: Api) -> None:
    """Links of a phone are open and have tests of their own."""
    offered = {e.name for e in api.endpoints() if e.method == "POST" and not e.is_open}
    assert offered == {act.name for act in ACTS}
