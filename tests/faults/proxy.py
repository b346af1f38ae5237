"""A network between hosts and servers: TCP proxies on 127.0.0.1 that can cut, slow, silence, and lose an answer."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable

CHUNK_BYTES = 65_536
CALL_SECONDS_MAX = 10.0
PREPARED = re.compile(rb"P....(_pg3_[0-9a-z]+)\0([^\0]*)\0", re.DOTALL)  # a statement of psycopg's and its text
T = TypeVar("T")


@dataclass(eq=False)
class _Line:
    """One connection. `sent`: the texts that the client has prepared on it, by the names that it calls them by."""

    near: tuple[StreamReader, StreamWriter]
    far: tuple[StreamReader, StreamWriter]
    proxy: Proxy
    prepared: dict[bytes, bytes] = field(default_factory=dict)
    is_lost: bool = False

    async def carry(self) -> None:
        back = asyncio.create_task(self._back())
        try:
            await self._forth()
        finally:
            back.cancel()
            self.cut()

    def cut(self) -> None:
        for _, writer in (self.near, self.far):
            writer.transport.abort()

    async def _forth(self) -> None:
        with suppress(OSError):
            while chunk := await self.near[0].read(CHUNK_BYTES):
                await self.proxy.hinder()
                self._look_for_answer_to_lose(chunk)
                self.far[1].write(chunk)
                await self.far[1].drain()

    async def _back(self) -> None:
        with suppress(OSError):
            while chunk := await self.far[0].read(CHUNK_BYTES):
                if self.is_lost:  # the server has answered: whatever it was asked for is done
                    break
                await self.proxy.hinder()
                self.near[1].write(chunk)
                await self.near[1].drain()
        self.cut()

    def _look_for_answer_to_lose(self, chunk: bytes) -> None:
        self.prepared |= PREPARED.findall(chunk)
        words = self.proxy.loses
        if words is None:
            return
        said = [chunk, *(text for name, text in self.prepared.items() if b"\0" + name + b"\0" in chunk)]
        if any(re.search(words, text) for text in said):
            self.is_lost = True
            self.proxy.loses = None
            self.proxy.answers_lost += 1


@dataclass(eq=False)
class Proxy:
    """Leads from `port` to `target`, which may change. Set and read in the network's thread: see Network.do."""

    target: int
    port: int = 0
    delay_seconds: float = 0.0
    loses: re.Pattern[bytes] | None = None  # the answer to the next request that says this
    answers_lost: int = 0
    lines: set[_Line] = field(default_factory=set)
    passes: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: nothing passes, and nobody is told

    def cut(self) -> None:
        """End all connections."""
        for line in self.lines:
            line.cut()

    async def hinder(self) -> None:
        await self.passes.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)

    async def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        await self.passes.wait()
        try:
            far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        line = _Line((reader, writer), far, self)
        self.lines.add(line)
        try:
            await line.carry()
        finally:
            self.lines.discard(line)


class Network:
    """All proxies, in one thread; `with Network() as network`."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        """Begin to carry."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CALL_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def proxy(self, target: int) -> Proxy:
        """Make a way to a port of 127.0.0.1; its own port is in the answer."""
        return asyncio.run_coroutine_threadsafe(self._listen(target), self._loop).result(CALL_SECONDS_MAX)

    def do(self, act: Callable[[], T]) -> T:
        """Do something with the proxies, in their thread; returns what it returns."""
        done: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(act()))
        return done.result(CALL_SECONDS_MAX)

    async def _listen(self, target: int) -> Proxy:
        proxy = Proxy(target)
        proxy.passes.set()
        server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        return proxy

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
