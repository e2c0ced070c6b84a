"""The bad network of the tests does what it says, and is silent where nothing is set."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chipmedic_simulator.tcp_proxy import TcpProxy
from waiting import PATIENCE_SECONDS


@asynccontextmanager
async def echo() -> AsyncIterator[TcpProxy]:
    """A proxy before a server that answers what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = await TcpProxy(f"127.0.0.1:{port}", random.Random(7)).start()
    yield proxy
    await proxy.stop()
    server.close()


async def ask(proxy: TcpProxy, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(words)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read(1024)
    finally:
        writer.transport.abort()


async def test_it_carries_what_it_gets() -> None:
    async with echo() as proxy:
        assert await ask(proxy, b"hello") == b"hello"
        assert proxy.carried_bytes == 10


async def test_what_is_frozen_lets_in_and_says_nothing_until_it_thaws() -> None:
    async with echo() as proxy:
        proxy.is_frozen = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        proxy.is_frozen = False
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.read(1024) == b"hello"
        writer.transport.abort()


async def test_it_cuts_delays_and_garbles() -> None:
    async with echo() as proxy:
        proxy.delay_seconds = 0.1
        begun = asyncio.get_running_loop().time()
        assert await ask(proxy, b"hello") == b"hello"
        assert asyncio.get_running_loop().time() - begun >= 0.2
        proxy.delay_seconds, proxy.garbled_ratio = 0.0, 1.0
        heard = await ask(proxy, b"hello")
        assert len(heard) == 5
        assert heard != b"hello"
        proxy.garbled_ratio = 0.0
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        await reader.read(5)
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.transport.abort()


async def test_where_nobody_listens_the_connection_is_reset() -> None:
    proxy = await TcpProxy("127.0.0.1:1", random.Random(7)).start()
    with pytest.raises(ConnectionResetError):
        await ask(proxy, b"hello")
    await proxy.stop()
