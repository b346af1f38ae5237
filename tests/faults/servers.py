"""The servers under test, on ports of 127.0.0.1: a Postgres that can restart in every way, and two Valkeys."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from typing import TYPE_CHECKING, Any, Self

import psycopg
from tests.support.engines import running
from tests.support.valkey import TcpValkey, free_port

from stripedjob.local.engine_servers import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ_WRITE = "-c default_transaction_read_only=off"


class FaultyPostgres(PostgresServer):
    """On a port, and able to come up as a standby; it remembers when each transaction was committed."""

    def __init__(self, home: Path) -> None:
        """Take an existing directory."""
        super().__init__(home)
        self.port = free_port()

    @property
    def url(self) -> str:
        """The way past all proxies."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        """Listen on the port as well."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "track_commit_timestamp": "on",
            "max_wal_size": "4GB",
        }
        return [*super().command(), *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]

    def is_ready(self) -> bool:
        """Take a standby for ready as soon as it can be read."""
        with contextlib.suppress(OSError):
            lines = self.pid_file.read_text().splitlines()
            return len(lines) > 7 and int(lines[0]) == self.pid and lines[7].strip() in {"ready", "standby"}
        return False

    def end(self, number: signal.Signals) -> None:
        """End it with a signal: SIGINT fast, SIGQUIT immediate, SIGKILL a crash."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
        self._process = None

    def become_standby(self) -> None:
        """Come up again as a standby without a primary: it can be read, and refuses to write."""
        self.end(signal.SIGINT)
        mark = self.data / "standby.signal"
        mark.touch()
        if os.geteuid() == 0:
            os.chown(mark, pwd.getpwnam("nobody").pw_uid, -1)
        self.start()

    def promote(self) -> None:
        """Take writes again."""
        self.ask("select pg_promote()")

    def ask(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Run one statement past all faults."""
        with psycopg.connect(self.url, autocommit=True, options=READ_WRITE) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []


class Servers:
    """Postgres, and two Valkeys of which `valkey` is the one in use; `with Servers(folder) as servers`."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        self.folder = folder
        home = folder / "postgres"
        home.mkdir()
        self.postgres = FaultyPostgres(home)
        self.valkey = TcpValkey(folder / "valkey")
        self.spare = TcpValkey(folder / "spare")
        self._all = running(self.postgres, self.valkey, self.spare)

    def __enter__(self) -> Self:
        """Start all."""
        self._all.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self._all.__exit__(None, None, None)

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make an empty database and yield its URL past all proxies; it goes with all who are connected to it."""
        self.postgres.ask(f"create database {name} template template0")
        yield self.postgres.url.removesuffix("postgres") + name
        self.postgres.ask(f"drop database {name} with (force)")

    def fail_over(self) -> TcpValkey:
        """Have the spare take over, empty; the other one, emptied as well, is the spare."""
        self.valkey, self.spare = self.spare, self.valkey
        for one in (self.valkey, self.spare):
            with one.client() as client:
                client.flushall()
        return self.valkey
