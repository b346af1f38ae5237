"""A wire between an operator and the API server, on 127.0.0.1, that a test can cut, or have fall silent.

TLS begins at its far end, so that it sees which connections carry a watch.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

CHUNK_BYTES = 65_536
CALL_SECONDS_MAX = 10
WATCH = b"watch=true"
LIST = b"limit="  # kopf lists in parts
T = TypeVar("T")


@dataclass(eq=False)
class _Line:
    """One connection, to its end."""

    near: tuple[StreamReader, StreamWriter]
    far: tuple[StreamReader, StreamWriter]
    wire: Wire
    is_watch: bool = False
    is_silent: bool = False

    async def carry(self) -> None:
        """Carry both ways until the near side ends, or the far side does and the near side may hear of it."""
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
                self.is_watch = WATCH in chunk
                self.is_silent = self.is_silent or any(words in chunk for words in self.wire.muted)
                self.far[1].write(chunk)
                await self.far[1].drain()

    async def _back(self) -> None:
        with suppress(OSError):
            while chunk := await self.far[0].read(CHUNK_BYTES):
                if not self.is_silent:
                    self.near[1].write(chunk)
                    await self.near[1].drain()
        if not self.is_silent:  # else not even its end is told: the near side is to find out by itself
            self.cut()


class Wire:
    """Listens while it is used as a context; all that it does happens in one thread, which TLS needs."""

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        self._config: dict[str, Any] = yaml.safe_load(Path(kubeconfig).read_text())
        self._cluster = self._config["clusters"][0]["cluster"]
        self.far = urlsplit(self._cluster.pop("server"))
        self.tls = ssl.create_default_context(cafile=self._cluster.pop("certificate-authority"))
        self.kubeconfig = str(folder / "wire.kubeconfig")
        self.lines: set[_Line] = set()
        self.is_away = False
        self.muted: tuple[bytes, ...] = ()  # a request with one of these is not answered
        self.refused = 0
        self._listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)

    def __enter__(self) -> Wire:  # noqa: PYI034 - its own
        self._thread.start()
        self._loop, self._over, port = self._listening.result(CALL_SECONDS_MAX)
        self._cluster["server"] = f"http://127.0.0.1:{port}"
        Path(self.kubeconfig).write_text(yaml.safe_dump(self._config))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._over.set)
        self._thread.join(CALL_SECONDS_MAX)

    async def _listen(self) -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as server:
            self._listening.set_result((asyncio.get_running_loop(), over, server.sockets[0].getsockname()[1]))
            await over.wait()
            for line in self.lines:
                line.cut()

    def watches(self) -> list[_Line]:
        """Return the connections that carry a watch and can be heard."""
        return self._call(lambda: [line for line in self.lines if line.is_watch and not line.is_silent])

    def silence(self) -> int:
        """Have the watches of now fall silent, and not end; returns how many."""
        watches = self.watches()
        for line in watches:
            line.is_silent = True
        return len(watches)

    def cut(self) -> None:
        """End all connections."""
        for line in self._call(lambda: list(self.lines)):
            self._loop.call_soon_threadsafe(line.cut)

    def _call(self, function: Callable[[], T]) -> T:
        future: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: future.set_result(function()))
        return future.result(CALL_SECONDS_MAX)

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.is_away:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            far = await asyncio.open_connection(self.far.hostname, self.far.port, ssl=self.tls)
        except OSError:
            writer.transport.abort()
            return
        line = _Line((reader, writer), far, self)
        self.lines.add(line)
        try:
            await line.carry()
        finally:
            self.lines.discard(line)
