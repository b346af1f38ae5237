"""Pure: the URLs that StripedJobs' Secrets hold, checked before anything is done with them.

Whoever may write a Secret and a StripedJob chooses what the operator connects to; the files of its pod are not theirs.
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

from stripedjob.pool.conninfo import parts
from stripedjob.pool.conninfo import where as postgres_where
from stripedjob.pool.errors import PoolRefusedError

# All others name files, commands or helpers of the operator's pod, or settings that the operator makes itself.
POSTGRES_OPTIONS = {
    *("host", "hostaddr", "port", "dbname", "user", "password", "application_name", "fallback_application_name"),
    *("sslmode", "sslnegotiation", "sslcompression", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("channel_binding", "gssencmode", "require_auth", "target_session_attrs", "load_balance_hosts"),
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("tcp_user_timeout", "client_encoding"),
}
REDIS_OPTIONS = {
    *("db", "username", "password", "client_name", "protocol", "sentinel_username", "sentinel_password"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "retry_on_timeout"),
    *("max_connections", "ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers", "ssl_ca_data"),
}
REDIS_FILES = {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"}
REDIS_SCHEMES = {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
REDIS_FORM = (
    "it is no URL of this backend: write redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss://, redis+sentinel://,"
    " redis+cluster:// or unix:// as docs/locks.md has them, without quotes, and percent-encode what is special in"
    " user and password, such as @ : / ? # % and spaces"
)
REFUSED = "its option {} is not for the operator, which has files and settings of its own: see docs/operator.md, URLs"


SECRET_CHARS_MIN = 4  # what is shorter is a piece of many a word
HIDDEN = "…"


class UrlError(Exception):
    """A URL that the operator does not use; the message has nothing of it but names of options."""


def check_postgres(url: str) -> str:
    """Return the servers that the URL names, as HOST:PORT; raises UrlError."""
    try:
        found = parts(url)
    except PoolRefusedError as error:
        raise UrlError(str(error)) from None
    for name, value in found.items():
        if name not in POSTGRES_OPTIONS and (name, value) != ("sslrootcert", "system"):
            raise UrlError(REFUSED.format(name))  # libpq knows it: it is nobody's password
    return postgres_where(found)


def check_redis(url: str) -> str:
    """Return the servers that the URL names, as HOST:PORT; raises UrlError."""
    try:
        split = urlsplit(url)
        names = {name for name, _ in parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))}
        hosts = [urlsplit(f"//{host}") for host in split.netloc.rpartition("@")[2].split(",")]
        named = [f"{host.hostname}:{host.port}" if host.port else str(host.hostname) for host in hosts]
        is_whole = all(host.hostname and not host.path for host in hosts)
    except ValueError:
        raise UrlError(REDIS_FORM) from None
    # An @ behind the hosts: the password has an unescaped character, and what seems to be a host is a piece of it.
    is_torn = "@" in split.path + split.query or bool(split.fragment)
    if is_torn or split.scheme not in REDIS_SCHEMES or not (is_whole or split.scheme == "unix"):
        raise UrlError(REDIS_FORM)
    for name in sorted(names & REDIS_FILES):
        raise UrlError(REFUSED.format(name))
    if names - REDIS_OPTIONS:
        raise UrlError(REDIS_FORM)
    return "a unix socket" if split.scheme == "unix" else ", ".join(named)


def without_secrets(text: str, urls: Iterable[str]) -> str:
    """Hide in somebody else's words what is secret in these URLs, in whole and in pieces, as parsers cut it."""
    for url in urls:
        user = url.rpartition("@")[0].rpartition("://")[2]
        found = re.split(r"[:/?#&@=\s'\"]+", user.partition(":")[2]) + re.findall(r"password=([^&\s]+)", url)
        for secret in sorted({*found, *map(unquote, found)}, key=len, reverse=True):
            if len(secret) >= SECRET_CHARS_MIN:
                text = text.replace(secret, HIDDEN)
    return text
