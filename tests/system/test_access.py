"""Joining, renewing, revoking and posing as another, with real daemons over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from chipmedic_agent import credentials
from chipmedic_agent.credentials import Credentials
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from fake_agent import FakeAgent, a_fault, event
from waiting import PATIENCE_SECONDS, until
from watchdog_process import WatchdogProcess

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent
LIFETIME_SECONDS = 15
"""Of a certificate that is renewed while the test looks on: from 10 s on there is time for it."""
DENIED = grpc.StatusCode.PERMISSION_DENIED


class Watchdog(WatchdogProcess):
    """A watchdog where nodes join."""

    @property
    def join(self) -> str:
        found = re.search(r" join=127\.0\.0\.1:(\d+)", self.log)
        assert found is not None
        return f"localhost:{found[1]}"

    @property
    def stream(self) -> str:
        return self.address.replace("127.0.0.1", "localhost")

    def post(self, path: str, status: int = 200, **body: str) -> Any:
        answer = httpx.post(f"{self.http}/api/v1/{path}", json={"who": "root", **body}, timeout=60)
        assert answer.status_code == status, answer.text
        return answer.json()

    def token(self, **wish: str) -> str:
        return str(self.post("tokens/join", **wish)["token"])

    def state_of(self, node: str) -> str:
        found = [row["state"] for row in self.items("/api/v1/nodes") if row["node"] == node]
        return str(found[0]) if found else "unheard"


@dataclass
class AgentProcess:
    """The real `chipmedic-agent`, with no collector that finds anything."""

    folder: Path
    watchdog: Watchdog
    node: str
    tls: str = ""
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    def write_config(self) -> None:
        (self.folder / "root").mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'node = "{self.node}"\nwatchdogs = ["{self.watchdog.stream}"]\n'
            f'state_directory = "{self.state}"\nprogress_socket = "{self.folder}/p"\n'
            f'host_root = "{self.folder}/root"\nhttp.enabled = false\n{self.tls}'
        )

    def start(self) -> None:
        self.write_config()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "chipmedic-agent", "--config", self.config],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def join(self, token: str) -> subprocess.CompletedProcess[str]:
        """Run `chipmedic agent join`."""
        self.write_config()
        return subprocess.run(
            [BIN / "chipmedic", "agent", "join", "--watchdog", self.watchdog.join,
             "--token-file", "-", "--config", self.config],
            input=token, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def identity(self) -> Credentials:
        found = credentials.load(self.state)
        assert found is not None
        return found

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=PATIENCE_SECONDS)


def joinable(folder: Path, more: str = "") -> Watchdog:
    return Watchdog(
        folder, f'[join]\nlisten = "127.0.0.1:0"\ndirectory = "{folder}/authority"\n{more}'
    )


@pytest.fixture(scope="module")
def watchdog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watchdog]:
    process = joinable(tmp_path_factory.mktemp("watchdog"))
    process.start()
    yield process
    process.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Watchdog]:
    """A watchdog whose certificates live for seconds; it forgives a node that stands still."""
    liveness = "[liveness]\nquiet_seconds = 60\nsilence_seconds = 6\n"
    process = joinable(
        tmp_path / "hasty", f"certificate_lifetime_seconds = {LIFETIME_SECONDS}\n{liveness}"
    )
    process.start()
    yield process
    process.close()


@pytest.fixture
def agent(watchdog: Watchdog, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    started: list[AgentProcess] = []

    def make(node: str, tls: str = "", of: Watchdog = watchdog) -> AgentProcess:
        started.append(AgentProcess(tmp_path / node, of, node, tls))
        started[-1].folder.mkdir()
        return started[-1]

    yield make
    for one in started:
        one.close()


def shown_by(identity: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        identity.authority.encode(), identity.key.encode(), identity.certificate.encode()
    )


def joined(agent: Any, watchdog: Watchdog, node: str) -> AgentProcess:
    one: AgentProcess = agent(node)
    answer = one.join(watchdog.token(node=node))
    assert answer.returncode == 0, answer.stderr
    return one


async def refusal(fake: FakeAgent) -> tuple[grpc.StatusCode, str]:
    with contextlib.suppress(AssertionError, aio.AioRpcError):
        await fake.start()
    ending = await fake.ending()
    await fake.drop()
    return ending


def test_a_node_joins_by_a_token_file_and_renews_by_itself(hasty, agent, tmp_path) -> None:
    (tmp_path / "token").write_text(hasty.token(node="auto") + "\n")
    tls = f'[tls]\ntoken_file = "{tmp_path}/token"\njoin = "{hasty.join}"\n'
    one = agent("auto", tls, of=hasty)
    one.start()
    until(lambda: hasty.state_of("auto") == "connected")
    first = one.identity
    assert (one.state / credentials.FILE).stat().st_mode & 0o777 == 0o600
    until(lambda: one.identity.certificate != first.certificate)
    until(lambda: one.log.count("stream open") >= 2)
    assert one.identity.key != first.key
    # Longer than the first certificate lived: nobody was missed meanwhile.
    time.sleep(max(0.0, first.expires_at - time.time()) + 1)
    until(lambda: hasty.state_of("auto") == "connected")
    assert not [f for f in hasty.items("/api/v1/faults") if f["node"] == "auto"]
    assert "stream is not encrypted" not in one.log


def test_a_node_joins_by_hand_while_its_agent_runs(watchdog, agent) -> None:
    one = agent("by-hand")
    one.start()
    until(lambda: "stream lost" in one.log)
    answer = one.join(watchdog.token(node="by-hand"))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "by-hand has joined" in answer.stdout
    until(lambda: watchdog.state_of("by-hand") == "connected")


def test_a_token_is_used_once_and_only_by_its_node(watchdog, agent) -> None:
    token = watchdog.token(node="one")
    assert "is for the node one, not for two" in agent("two").join(token).stderr
    one = agent("one")
    assert one.join(token).returncode == 0
    again = one.join(token)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "has been used up" in again.stderr
    assert token.split(".")[2] not in watchdog.log


def test_an_expired_a_revoked_and_a_forged_token_open_nothing(watchdog, agent) -> None:
    one = agent("late")
    token = watchdog.token(node="late", ttl_seconds="1")
    time.sleep(1.2)
    assert "has expired" in one.join(token).stderr
    token = watchdog.token(node="late")
    watchdog.post(f"tokens/{token.split('.')[1]}/revoke")
    assert "was revoked" in one.join(token).stderr
    parts = watchdog.token(node="late").split(".")
    forged = ".".join([parts[0], parts[1], "0" * 48, parts[3]])
    assert "is not known here" in one.join(forged).stderr
    assert "no join token" in one.join("nonsense").stderr
    assert not (one.state / credentials.FILE).exists()


def test_the_token_goes_to_its_own_watchdog_alone(watchdog, agent) -> None:
    """Whoever sits in between shows another authority, and must not learn the secret."""
    parts = watchdog.token(node="wary").split(".")
    other = ".".join([*parts[:3], "f" * 64])
    answer = agent("wary").join(other)
    assert "is not the watchdog that has made the token" in answer.stderr
    assert "the token was not sent" in answer.stderr
    assert "node='wary'" not in watchdog.log


def test_a_token_for_any_node_takes_nobodys_name(watchdog, agent, tmp_path) -> None:
    joined(agent, watchdog, "taken")
    (tmp_path / "elsewhere").mkdir()
    thief = AgentProcess(tmp_path / "elsewhere", watchdog, "taken")
    answer = thief.join(watchdog.token(uses="5"))
    assert "taken has a certificate already" in answer.stderr
    assert agent("fresh").join(watchdog.token(uses="5")).returncode == 0


async def test_a_node_speaks_for_itself_alone(watchdog, agent) -> None:
    one = await asyncio.to_thread(joined, agent, watchdog, "honest")
    shown = shown_by(one.identity)
    async with FakeAgent(watchdog.stream, node="honest", credentials=shown, next_seq=2) as itself:
        await itself.events(event(1, a_fault()))
        await itself.acked(1)
        await itself.goodbye()
    code, words = await refusal(FakeAgent(watchdog.stream, node="victim", credentials=shown))
    assert code is DENIED
    assert "the certificate is of honest, the hello says victim" in words
    assert watchdog.log.count("the hello says victim") == 1
    assert watchdog.state_of("victim") == "unheard"
    page = watchdog.get("/metrics").text
    assert 'chipmedic_watchdog_streams_refused_total{reason="wrong_node"} 1.0' in page
    async with aio.secure_channel(watchdog.stream, shown) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await renew_as(channel, "victim")
    assert refused.value.code() is DENIED


async def renew_as(channel: aio.Channel, node: str) -> Any:
    call = channel.unary_unary(
        "/chipmedic.v1.Watchdog/Renew",
        request_serializer=pb.RenewRequest.SerializeToString,
        response_deserializer=pb.RenewReply.FromString,
    )
    return await call(pb.RenewRequest(node=node, csr="anything"), timeout=PATIENCE_SECONDS)


async def test_a_stolen_certificate_is_worthless_once_its_node_is_revoked(watchdog, agent) -> None:
    one = await asyncio.to_thread(joined, agent, watchdog, "robbed")
    shown = shown_by(one.identity)
    thief = FakeAgent(watchdog.stream, node="robbed", credentials=shown)
    await thief.start()
    answer = await asyncio.to_thread(
        watchdog.post, "nodes/robbed/revoke", why="the disk was stolen"
    )
    assert answer["certificates"] == 1
    await thief.until(lambda: thief.is_over)
    await thief.drop()
    code, words = await refusal(FakeAgent(watchdog.stream, node="robbed", credentials=shown))
    assert (code, "was revoked" in words) == (DENIED, True)
    async with aio.secure_channel(watchdog.stream, shown) as channel:
        with pytest.raises(aio.AioRpcError, match="was revoked"):
            await renew_as(channel, "robbed")
    # The owner joins again, and is let in.
    assert (await asyncio.to_thread(one.join, watchdog.token(node="robbed"))).returncode == 0
    fresh = shown_by(one.identity)
    async with FakeAgent(watchdog.stream, node="robbed", credentials=fresh) as itself:
        await itself.goodbye()


async def test_without_a_certificate_of_ours_nobody_gets_in(watchdog, agent) -> None:
    one = await asyncio.to_thread(joined, agent, watchdog, "insider")
    for stranger in (None, grpc.ssl_channel_credentials(one.identity.authority.encode())):
        code, _ = await refusal(FakeAgent(watchdog.stream, node="x", credentials=stranger))
        assert code is grpc.StatusCode.UNAVAILABLE
    assert watchdog.state_of("x") == "unheard"


async def test_a_node_cannot_pose_as_the_watchdog(watchdog, agent) -> None:
    """Its certificate is for clients: another agent does not take it for a server's."""
    one = await asyncio.to_thread(joined, agent, watchdog, "localhost")
    identity = one.identity
    server = aio.server()
    pair = (identity.key.encode(), identity.certificate.encode())
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    async with aio.secure_channel(f"localhost:{port}", shown_by(identity)) as channel:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await channel.channel_ready()
    await server.stop(0)


def test_every_act_of_access_is_in_the_audit_and_it_verifies(watchdog, agent) -> None:
    joined(agent, watchdog, "last")
    environment = {**os.environ, "CHIPMEDIC_WATCHDOG": watchdog.http, "COLUMNS": "200"}

    def chipmedic(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([BIN / "chipmedic", *words], env=environment, capture_output=True,
                              text=True, timeout=60, check=False)  # fmt: skip

    assert "last" in chipmedic("watchdog", "node", "list").stdout
    entries = json.loads(chipmedic("audit", "list", "--json").stdout)
    assert {"create token", "join"} <= {entry["act"] for entry in entries}
    until(lambda: f"audit: head={len(entries)}:" in watchdog.log)
    (head,) = re.findall(rf"audit: (head={len(entries)}:\w+)", watchdog.log)
    found = chipmedic("audit", "verify", "--head", head)
    assert (found.returncode, found.stderr) == (0, "")
    assert f"{len(entries)} entries, as written" in found.stdout
    lies = chipmedic("audit", "verify", "--head", f"9999:{'0' * 64}")
    assert lies.returncode == 1
    assert "the end was cut off" in lies.stdout
    listed = chipmedic("watchdog", "token", "list").stdout
    assert "used" in listed
