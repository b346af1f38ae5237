"""Servers on 127.0.0.1 that let others wait, each in its own way, and a gate before a real one that can fall silent."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

CHUNK_BYTES = 65_536
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
Talk = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return one message of Postgres' protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


LOGGED_IN = (
    message(b"R", struct.pack("!i", 0))
    + b"".join(
        message(b"S", b"\0".join((name, value, b"")))
        for name, value in ((b"server_version", b"18.0"), (b"client_encoding", b"UTF8"))
    )
    + message(b"K", struct.pack("!ii", 1, 1))
    + message(b"Z", b"I")
)
# Of an answer of one column and one row: what announces it, the row, and a row that does not come whole.
ONE_COLUMN = message(b"T", struct.pack("!h", 1) + b"x\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0))
ONE_ROW = message(b"D", struct.pack("!hi", 1, 1) + b"1")
HALF_AN_ANSWER = ONE_COLUMN + b"D\0\0"


async def log_in(reader: StreamReader, writer: StreamWriter) -> None:
    """Take whoever comes."""
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        if struct.unpack("!i", body[:4])[0] not in {SSL_REQUEST, GSS_REQUEST}:
            break
        writer.write(b"N")
    writer.write(LOGGED_IN)


async def forever() -> None:
    await asyncio.Event().wait()


async def say_nothing(_: StreamReader, __: StreamWriter) -> None:
    await forever()


async def log_in_and_say_nothing(reader: StreamReader, writer: StreamWriter) -> None:
    await log_in(reader, writer)
    await forever()


async def stop_in_the_middle(reader: StreamReader, writer: StreamWriter) -> None:
    await log_in(reader, writer)
    await reader.read(CHUNK_BYTES)
    writer.write(HALF_AN_ANSWER)
    await forever()


async def answer_at_first(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer simple queries, such as those that set a session up, and nothing that has parameters."""
    await log_in(reader, writer)
    while (await reader.read(CHUNK_BYTES)).startswith(b"Q"):
        writer.write(ONE_COLUMN + ONE_ROW + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))
    await forever()


async def say_a_byte_a_second(reader: StreamReader, writer: StreamWriter) -> None:
    await log_in(reader, writer)
    for byte in message(b"S", b"name\0" + b"x" * 20_000):
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


def banner(text: bytes) -> Talk:
    """Return what says something, whatever it is told, and ends."""

    async def say(_: StreamReader, writer: StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return say


SILENCES: dict[str, Talk] = {
    "says nothing": say_nothing,
    "takes the login": log_in_and_say_nothing,
    "answers at first": answer_at_first,
    "stops in the middle": stop_in_the_middle,
    "a byte a second": say_a_byte_a_second,
}


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """Have a server that does so with each connection; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await talk(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """Have a port that answers no SYN, since its backlog is full; yields it."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.settimeout(0)
            one.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@asynccontextmanager
async def hung_ports(count: int) -> AsyncIterator[list[int]]:
    """Have as many servers that let others wait, of every kind."""
    kinds: list[Callable[[], AbstractAsyncContextManager[int]]] = [
        *(partial(listening, talk) for talk in SILENCES.values()),
        black_hole,
    ]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(kinds[number % len(kinds)]()) for number in range(count)]


@dataclass
class Gate:
    """Carries bytes to a real server and back while it is open, and nothing while it is not."""

    host: str
    port: int
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.host.startswith("/"):
            far = await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        else:
            far = await asyncio.open_connection(self.host, self.port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far[1]))
                both.create_task(self._pump(far[0], writer))
        finally:
            far[1].transport.abort()

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self.opened.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()
