"""Connections to the HTTP port: too many, too slow, or never read; nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake.limits import STREAMS_OF_NAME, Limits
from chipmedic_watchdog.intake.refusals import Refused
from chipmedic_watchdog.intake.server import build_server
from chipmedic_watchdog.web.connections import Connections
from chipmedic_watchdog.web.server import WebServer
from intake_rig import Intake
from waiting import PATIENCE_SECONDS, eventually

HEAD = b"GET /big HTTP/1.1\r\nhost: x\r\n"
BIG = "x" * (64 << 20)


async def small(_: Request) -> Response:
    return PlainTextResponse("ok")


async def big(_: Request) -> Response:
    return PlainTextResponse(BIG)


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


class Server:
    """A port with limits, and why it refused."""

    def __init__(self, **limits: float) -> None:
        self.refused: Counter[str] = Counter()
        self.limits = Connections(
            on_refused=lambda reason: self.refused.update([reason]),
            **limits,  # type: ignore[arg-type]
        )
        routes = [Route("/", small), Route("/big", big), Route("/echo", echo, methods=["POST"])]
        self.web = WebServer(Starlette(routes=routes), "127.0.0.1:0", connections=self.limits)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.web.address.rpartition(":")
        return await asyncio.open_connection(host, int(port))


@contextlib.asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[Server]:
    server = Server(**limits)
    task = asyncio.create_task(server.web.run())
    try:
        yield server
    finally:
        server.web.stop()
        await task


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the server ended the connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    return b""


async def test_one_too_many_is_told_to_come_later() -> None:
    async with serving(maximum=3, kept_for_loopback=0) as server:
        kept = [await server.open() for _ in range(3)]
        async with httpx.AsyncClient() as client:
            for _, writer in kept:  # each is counted before the next one comes
                writer.write(HEAD)
                await writer.drain()
            reader, writer = await server.open()
            assert (await ended(reader)).startswith(b"HTTP/1.1 503 ")
            writer.close()
            for _, other in kept:
                other.close()
            await eventually(lambda: not server.limits._of)
            assert (await client.get(server.web.url)).text == "ok"
    assert server.refused == {"too_many": 1}


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HT", HEAD, b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx"],
)
async def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(said: bytes) -> None:
    async with serving(request_seconds=0.3) as server:
        reader, writer = await server.open()
        writer.write(said)
        assert b"200 OK" not in await ended(reader)
        writer.close()
    assert server.refused == {"slow_request": 1}


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async with serving(answer_seconds=0.3) as server:
        _, writer = await server.open()
        writer.write(HEAD + b"\r\n")
        await eventually(lambda: server.refused)
        writer.close()
    assert server.refused == {"slow_reader": 1}


async def test_who_asks_and_reads_is_not_bothered() -> None:
    patient = httpx.AsyncClient(timeout=PATIENCE_SECONDS)
    async with serving(request_seconds=PATIENCE_SECONDS) as server, patient as client:
        for _ in range(2):
            assert (await client.get(server.web.url)).text == "ok"
            answer = await client.post(f"{server.web.url}/echo", content=b"x" * 100_000)
            assert answer.text == "100000"
            # The connection is kept, and no request is begun: nothing is waited for.
            server.limits.request_seconds = 0.1
            await asyncio.sleep(0.3)
            server.limits.request_seconds = PATIENCE_SECONDS
        assert server.refused == {}


def test_the_people_on_the_host_get_in_when_the_others_took_all() -> None:
    limits = Connections(maximum=10, of_one_address=4, kept_for_loopback=2)
    taken = [limits.enter(f"10.0.0.{n}") for n in (1, 1, 1, 1, 1, 2, 2, 2, 2, 3)]
    assert taken == [True] * 4 + [False] + [True] * 4 + [False]
    assert [limits.enter("127.0.0.1") for _ in range(3)] == [True, True, False]
    limits.leave("127.0.0.1")
    assert not limits.enter("10.0.0.3")
    assert limits.enter("127.0.0.1")


@given(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1"]), max_size=40))
def test_what_was_counted_in_is_counted_out(addresses: list[str]) -> None:
    limits = Connections(maximum=9, of_one_address=3, kept_for_loopback=3)
    for address in [address for address in addresses if limits.enter(address)]:
        limits.leave(address)
    assert not limits._of


def test_a_certificate_has_so_many_streams_as_its_names_need() -> None:
    limits = Limits()
    with contextlib.ExitStack() as streams:
        for _ in range(STREAMS_OF_NAME * 2):
            streams.enter_context(limits.shown("07", 2))
        with pytest.raises(Refused, match="the certificate 07 has 16 streams already"):
            streams.enter_context(limits.shown("07", 2))
        for _ in range(100):
            streams.enter_context(limits.shown("", 0))  # none was shown: the address is counted
        streams.enter_context(limits.shown("08", 1))
    with limits.shown("07", 2):
        pass


async def test_a_silent_connection_to_the_streams_port_is_ended(intake: Intake) -> None:
    server, port = build_server(intake.service, "127.0.0.1:0", handshake_seconds=0.3)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ended(reader)
        writer.close()
    finally:
        await server.stop(None)


def test_streams_of_an_address_are_counted_too() -> None:
    limits, settings = Limits(), StreamSettings(streams_per_address=1)
    limits.enter("ipv4:10.0.0.1:1", settings)
    with pytest.raises(Refused, match="has 1 streams already"):
        limits.enter("ipv4:10.0.0.1:2", settings)
