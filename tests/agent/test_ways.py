"""The way to a watchdog where large packets vanish: when it is taken, and what it carries."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from agent_rig import certificates
from chipmedic_agent import ways as ways_module
from chipmedic_agent.channel import open_channel
from chipmedic_agent.config import TlsSettings
from chipmedic_agent.narrow_way import SEGMENT_BYTES, NarrowWay
from chipmedic_agent.path_trial import large_packets_pass
from chipmedic_agent.ways import Ways
from waiting import eventually

WATCHDOG = "10.0.0.1:7443"


class TriedPath:
    """A path whose trials have the outcomes that the test names, the last one for ever."""

    def __init__(self, *outcomes: bool | None) -> None:
        self.outcomes = list(outcomes)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.tried: list[tuple[str, int]] = []
        self.begun_anew: list[str] = []
        self.ways = Ways(self.begun_anew.append, self._try)

    async def _try(self, host: str, port: int) -> bool | None:
        self.tried.append((host, port))
        if len(self.tried) > 1:
            await self.go_on.wait()
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    async def settled(self) -> None:
        await eventually(lambda: not self.ways._tasks)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_module, "AGAIN_SECONDS", (0.0, 0.01))


async def test_a_path_that_loses_large_packets_is_told_once_and_left_when_it_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = TriedPath(False, False, None, False, True)
    path.go_on.clear()
    with caplog.at_level(logging.WARNING):
        path.ways.suspect(WATCHDOG)
        assert path.ways.is_narrow(WATCHDOG), "at once: to find out takes seconds"
        path.ways.suspect(WATCHDOG)
        await eventually(lambda: path.ways.trouble)
        assert path.ways.trouble == f"large packets vanish on the way to {WATCHDOG}"
        path.go_on.set()
        await path.settled()
    assert path.tried == [("10.0.0.1", 7443)] * 5
    assert not path.ways.is_narrow(WATCHDOG)
    assert path.ways.trouble == ""
    assert path.begun_anew == ["large packets pass again"]
    [told, ended] = caplog.messages
    assert told.startswith(f"large packets vanish on the way: watchdog={WATCHDOG} why=")
    assert "MTU" in told
    assert ended == f"large packets pass again: watchdog={WATCHDOG}"


async def test_a_path_that_is_well_is_said_nothing_of_and_not_suspected_again_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = TriedPath(True)
    path.ways.suspect(WATCHDOG)
    await path.settled()
    path.ways.suspect(WATCHDOG)
    assert not path.ways.is_narrow(WATCHDOG)
    assert len(path.tried) == 1
    assert (path.begun_anew, caplog.messages) == ([], [])


async def test_a_watchdog_that_is_not_there_proves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = TriedPath(None)
    path.ways.suspect(WATCHDOG)
    await path.settled()
    assert not path.ways.is_narrow(WATCHDOG)
    path.ways.suspect(WATCHDOG)
    assert path.ways.is_narrow(WATCHDOG), "the next loss is looked at again"
    await path.ways.close()
    assert not path.ways.is_narrow(WATCHDOG)
    assert caplog.messages == []


# -- the real thing


class Echo(grpc.GenericRpcHandler):
    def service(self, _: Any) -> Any:
        async def serve(_: Any, context: Any) -> None:
            while (data := await context.read()) is not aio.EOF:
                await context.write(data)

        return grpc.stream_stream_rpc_method_handler(serve)


@contextlib.asynccontextmanager
async def serving(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[int]:
    server = aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    await server.start()
    yield port
    await server.stop(0)


async def echoed(port: int, tls: TlsSettings, data: bytes) -> bytes:
    async with NarrowWay("127.0.0.1", port) as way:
        channel = open_channel(f"127.0.0.1:{port}", tls, through=way.target)
        call = channel.stream_stream("/any/any")()
        await call.write(data)
        answer = await call.read()
        assert isinstance(answer, bytes)
        await channel.close(None)
    return answer


async def test_a_stream_goes_through_in_small_packets() -> None:
    async with serving() as port:
        assert await echoed(port, TlsSettings(), b"x" * 300_000) == b"x" * 300_000


async def test_an_encrypted_stream_goes_through_and_the_watchdog_proves_its_name(
    tmp_path: Path,
) -> None:
    certificates(tmp_path)
    read = {
        name: (tmp_path / name).read_bytes() for name in ("ca.pem", "watchdog.key", "watchdog.pem")
    }
    credentials = grpc.ssl_server_credentials(
        [(read["watchdog.key"], read["watchdog.pem"])], read["ca.pem"], require_client_auth=True
    )
    tls = TlsSettings(
        ca_file=f"{tmp_path}/ca.pem",
        certificate_file=f"{tmp_path}/agent.pem",
        key_file=f"{tmp_path}/agent.key",
    )
    async with serving(credentials) as port:
        assert await echoed(port, tls, b"x" * 30_000) == b"x" * 30_000
        async with NarrowWay("127.0.0.1", port) as way:
            channel = open_channel(f"other.example:{port}", tls, through=way.target)
            call = channel.stream_stream("/any/any")()
            with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(b"x")
            assert "Hostname Verification" in await call.details()
            await channel.close(None)


async def test_both_ends_of_the_narrow_way_agree_on_small_packets() -> None:
    sizes: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        sizes.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        writer.write(await reader.read(10))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with NarrowWay("127.0.0.1", port) as way:
        name = "\0" + way.target.removeprefix("unix-abstract:")
        reader, writer = await asyncio.open_unix_connection(name)
        writer.write(b"hello")
        assert await reader.read() == b"hello", "and the end of one side is the end of the other"
        writer.close()
    server.close()
    await server.wait_closed()
    assert sizes
    assert max(sizes) <= SEGMENT_BYTES


@pytest.mark.parametrize("turns", range(6))
async def test_whatever_its_end_cuts_short_no_connection_stays_open(turns: int) -> None:
    """It ends while a connection is accepted, or is being made, or has only just been."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with NarrowWay("127.0.0.1", listener.getsockname()[1]) as way:
            reader, writer = await asyncio.open_unix_connection(
                "\0" + way.target.removeprefix("unix-abstract:")
            )
            for _ in range(turns):
                await asyncio.sleep(0)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()
    gc.collect()  # what was left open says so here, not in another test


async def test_the_trial_of_a_path_to_a_real_server() -> None:
    async with serving() as port:
        assert await large_packets_pass("127.0.0.1", port) is True
        assert await echoed(port, TlsSettings(), b"x") == b"x", "which goes on"
    assert await large_packets_pass("127.0.0.1", port) is None, "nobody is there any more"
    assert await large_packets_pass("nowhere.invalid", 1) is None


async def test_the_trial_of_a_path_on_which_nothing_is_taken() -> None:
    """A full window stands for it here; tests/system/test_mtu_black_hole.py has the real path."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert await large_packets_pass("127.0.0.1", listener.getsockname()[1]) is False
