"""A real PgBouncer in transaction mode before the tests' Postgres, with so few sessions that clients share them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from stripedjob.local.engine import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSIONS = 3  # of the server, for all clients of a database
USER = "stripedjob_tests"
PORT = 6432  # of its unix socket, in a folder of its own
SETTINGS: Mapping[str, object] = {
    "pool_mode": "transaction",
    "default_pool_size": SESSIONS,
    "min_pool_size": 0,
    "max_client_conn": 500,
    "server_round_robin": 1,  # each transaction has another session than the one before, where it can
    "auth_type": "any",
    "listen_port": PORT,
    "query_wait_timeout": 60,
}


def program() -> str | None:
    """Return the path of PgBouncer, None where there is none."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


def pgbouncer_in(home: Path, server_url: str) -> PgBouncer:
    """Return one in a new folder; skips the test where PgBouncer is not installed, which it is in CI."""
    if program() is None:
        assert not os.environ.get("CI"), "pgbouncer is not installed"
        pytest.skip("pgbouncer is not installed")
    home.mkdir()
    return PgBouncer(home, server_url)


class PgBouncer(Server):
    """PgBouncer on a unix socket, for all databases of one server. `extra`: settings of its file."""

    name: ClassVar[str] = "pgbouncer"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, home: Path, server_url: str, **extra: object) -> None:
        """Take the folder, which nobody else uses, and the server that it stands before."""
        super().__init__(home)
        self._behind = conninfo_to_dict(server_url)
        self._settings = {**SETTINGS, **extra}

    @property
    def url(self) -> str:
        """Where clients connect to, for the server's own database."""
        return self.before(f"postgresql:///{self._behind.get('dbname', 'postgres')}")

    @property
    def pid_file(self) -> Path:
        """Written by itself."""
        return self.home / "pgbouncer.pid"

    def before(self, url: str) -> str:
        """Return the URL of a server's database as it is reached through this."""
        query = urlencode({"host": str(self.sockets), "port": PORT})
        return urlunsplit(urlsplit(url)._replace(netloc=f"{USER}@", query=query))

    def prepare(self) -> None:
        """Write its file; whoever comes is the server's user, with its password."""
        names = {"host": "host", "port": "port", "user": "user", "password": "password"}
        behind = {name: self._behind[key] for name, key in names.items() if self._behind.get(key)}
        settings = self._settings | {"unix_socket_dir": self.sockets, "pidfile": self.pid_file, "listen_addr": ""}
        server = " ".join(f"{name}='{value}'" for name, value in behind.items())
        lines = [f"{name} = {value}" for name, value in settings.items()]
        file = self.home / "pgbouncer.ini"
        file.write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
        file.chmod(0o600)
        if os.geteuid() == 0:
            self.sockets.mkdir(exist_ok=True)
            account = pwd.getpwnam("nobody")
            for path in {self.home, self.sockets, file}:
                os.chown(path, account.pw_uid, account.pw_gid)

    def command(self) -> list[str]:
        """Run it in the foreground."""
        return [str(program()), "--quiet", str(self.home / "pgbouncer.ini")]

    def is_ready(self) -> bool:
        """Return whether it takes clients."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.sockets / f".s.PGSQL.{PORT}")) == 0

    def is_passing(self, log_tail: str) -> bool:  # noqa: ARG002 - it has nothing to wait for
        """Never wait."""
        return False

    def privileges(self) -> list[str]:
        """PgBouncer refuses root: root becomes nobody, who may still enter directories as root."""
        if os.geteuid() != 0:
            return super().privileges()
        account = pwd.getpwnam("nobody")
        identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        enter = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
        return [*super().privileges(), *identity, *enter]
