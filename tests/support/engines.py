"""Databases and servers for the tests that need real ones."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from stripedjob.filelock import is_held, take_when_alone
from stripedjob.local.engine_servers import PostgresServer, Server, ValkeyServer

MEMORY, MEMORY_BYTES_MIN = Path("/dev/shm"), 10 * 2**30

# For fault tests: a server in a directory of the test's own, with start(), stop(), kill() and url.
# start() after kill() works on the same data and the same URL; Valkey forgets everything.
RestartableValkey = ValkeyServer


class RestartablePostgres(PostgresServer):
    """A Postgres that can also come back as a stand-by, which answers and cannot be written."""

    def start_as_standby(self) -> None:
        """Start as what a fail-over leaves of an old primary; `select pg_promote()` ends that."""
        (self.data / "standby.signal").touch()
        self.start()

    def is_ready(self) -> bool:
        """Count a stand-by that takes clients as ready, too."""
        return super().is_ready() or (self.pid_file.exists() and "standby" in self.pid_file.read_text().split())


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Start the servers in this order, stop them in the other, whatever happens."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


@contextmanager
def files_in_memory() -> Iterator[None]:
    """Have temporary folders in memory, where there is plenty.

    Each database is some 300 files, and a file system on disk looks long for a place for each where many were removed.
    """
    before = tempfile.tempdir
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN:
        tempfile.tempdir = str(MEMORY)
    try:
        yield
    finally:
        tempfile.tempdir = before


def end_engines(folder: Path) -> None:
    """End the embedded engines that wait for their next user anywhere under a folder."""
    for lock in folder.rglob("daemon.lock"):
        if is_held(lock):
            os.kill(int(lock.read_text()), signal.SIGTERM)
            os.close(take_when_alone(lock))


@contextmanager
def new_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """Yield the URL of a database, empty or as its template, dropped afterwards with whoever is still connected.

    Its files are copied, which takes half the time of writing all that is in them to the log.
    """
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        query = sql.SQL("create database {} template {} strategy file_copy")
        connection.execute(query.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
