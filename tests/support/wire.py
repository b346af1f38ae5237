"""A wire between an operator and the API server, on 127.0.0.1, that a test can cut, or have fall silent.

TLS begins at its far end, so that it sees which connections carry a watch.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR, create_connection, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

CHUNK_BYTES = 65_536
CONNECT_SECONDS_MAX = 5
WATCH = b"watch=true"
LIST = b"limit="  # kopf lists in parts


@dataclass(eq=False)
class _Line:
    """One connection, to its end."""

    near: socket
    far: ssl.SSLSocket
    wire: Wire
    is_watch: bool = False
    is_silent: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def carry(self) -> None:
        threading.Thread(target=self._forth, daemon=True).start()
        with suppress(OSError):
            while chunk := self.far.recv(CHUNK_BYTES):
                if not self.is_silent:
                    self.near.sendall(chunk)
        if not self.is_silent:  # else not even its end is told: the near side is to find out by itself
            self.cut()

    def cut(self) -> None:
        for end in (self.near, self.far):
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)

    def _forth(self) -> None:
        with suppress(OSError):
            while chunk := self.near.recv(CHUNK_BYTES):
                self.is_watch = WATCH in chunk
                self.is_silent = self.is_silent or (self.wire.is_mute and (self.is_watch or LIST in chunk))
                self.far.sendall(chunk)
        self.wire.lines.discard(self)
        self.cut()
        self.over.set()


class Wire(ThreadingTCPServer):
    """Listens while it is used as a context."""

    daemon_threads = True

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        config: dict[str, Any] = yaml.safe_load(Path(kubeconfig).read_text())
        cluster = config["clusters"][0]["cluster"]
        self.far = urlsplit(cluster.pop("server"))
        self.tls = ssl.create_default_context(cafile=cluster.pop("certificate-authority"))
        cluster["server"] = f"http://127.0.0.1:{self.server_address[1]}"
        self.kubeconfig = str(folder / "wire.kubeconfig")
        Path(self.kubeconfig).write_text(yaml.safe_dump(config))
        self.lines: set[_Line] = set()
        self.is_away = False
        self.is_mute = False
        self.refused = 0

    def __enter__(self) -> Wire:  # noqa: PYI034 - its own
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.cut()
        self.server_close()

    def watches(self) -> list[_Line]:
        """Give the connections that carry a watch and can be heard."""
        return [line for line in list(self.lines) if line.is_watch and not line.is_silent]

    def silence(self) -> int:
        """Have the watches of now fall silent, and not end; returns how many."""
        watches = self.watches()
        for line in watches:
            line.is_silent = True
        return len(watches)

    def cut(self) -> None:
        """End all connections."""
        for line in list(self.lines):
            line.cut()


class _Handler(BaseRequestHandler):
    def handle(self) -> None:
        wire = self.server
        assert isinstance(wire, Wire)
        if wire.is_away:
            wire.refused += 1
            return
        host, port = wire.far.hostname, wire.far.port
        with (
            create_connection((host, port), CONNECT_SECONDS_MAX) as plain,
            wire.tls.wrap_socket(plain, server_hostname=host) as far,
        ):
            far.settimeout(None)
            line = _Line(self.request, far, wire)
            wire.lines.add(line)
            line.carry()
            line.over.wait()
