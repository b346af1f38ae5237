"""Pure: what a Postgres URL says, told without a word of it that may be secret. Used by the operator."""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from stripedjob.pool.errors import PoolRefusedError

PORT = "5432"
HOST = re.compile(r"[A-Za-z0-9_.:%-]+|/.*")  # a name, an address, or the folder of a unix socket
FORM = (
    "it is no Postgres URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, without quotes,"
    " and percent-encode what is special in user and password, such as @ : / ? # % and spaces"
)


def parts(url: str) -> dict[str, str]:
    """Return the URL's libpq options by name; raises PoolRefusedError, in words of our own.

    An unescaped character in a password makes other parts of what follows it, which are valid now and then. A host
    or database that can be no more than such a rest is refused, since both are shown.
    """
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise PoolRefusedError(FORM) from None
    hosts = [*found.get("host", "").split(","), *found.get("hostaddr", "").split(",")]
    ports = found.get("port", "").split(",")
    if (
        not found
        or any(host and not HOST.fullmatch(host) for host in hosts)
        or any(port and not port.isdecimal() for port in ports)
        or "@" in found.get("dbname", "")
    ):
        raise PoolRefusedError(FORM)
    return found


def where(parts: dict[str, str]) -> str:
    """Name the servers: hosts and ports, nothing else."""
    hosts = (parts.get("host") or parts.get("hostaddr") or "/").split(",")
    ports = parts.get("port", PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    named = [
        "a unix socket" if host.startswith("/") else f"{host}:{port or PORT}"
        for host, port in zip(hosts, ports, strict=False)
    ]
    return ", ".join(named)
