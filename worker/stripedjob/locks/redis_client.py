"""From a URL to a redis-py client: one server, Sentinel, or Cluster.

Called by redis.py. The forms, each with `rediss` in place of `redis` for TLS:

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
    unix://[USER:PASSWORD@]/PATH/TO/SOCKET[?db=DATABASE]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/PRIMARY[/DATABASE]
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]

USER and PASSWORD are the data servers' (percent-encoded); Sentinel's own go into the options
`sentinel_username` and `sentinel_password`. Further options are redis-py's, such as
`?ssl_ca_certs=/path/ca.pem`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.connection import HiredisRespSerializer

from stripedjob.locks.backend import CONNECT_SECONDS_MAX
from stripedjob.locks.errors import LockConfigError
from stripedjob.urls import mistake_in, shown

COMMAND_SECONDS_MAX = 2.0
RETRIES = 2
RETRY_SECONDS_FIRST = 0.05
RETRY_SECONDS_MAX = 0.5
CALLS_AT_ONCE_MAX = 4  # a claim, a release and a heartbeat, and one to spare; the connections follow it
PACKER = HiredisRespSerializer()
SENTINEL_PORT = 26379
REDIS_PORT = 6379
FORMS = "redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"

Client = Redis | RedisCluster


def connect(url: str) -> tuple[Client, Sequence[Redis]]:
    """Return the client, and the Sentinel clients it asks (to be closed with it); nothing connects yet."""
    mistake = mistake_in(url)
    if mistake:
        raise LockConfigError(f"the lock URL cannot be used: {mistake}; begin it with {FORMS}")
    scheme = urlsplit(url).scheme
    try:
        if scheme in ("redis", "rediss", "unix"):
            return _single(url), ()
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _sentinel(_Address.parse(url, SENTINEL_PORT))
        if scheme in ("redis+cluster", "rediss+cluster"):
            return _cluster(_Address.parse(url, REDIS_PORT)), ()
    except _UrlError as error:
        raise LockConfigError(f"the lock URL {shown(url)} cannot be used: {error}") from None
    except (ValueError, TypeError):  # redis-py's words may quote options
        raise LockConfigError(f"the lock URL {shown(url)} cannot be used: it has an option that is unknown") from None
    raise LockConfigError(f"the lock URL {shown(url)} has an unknown scheme: begin it with {FORMS}")


class _UrlError(ValueError):
    """What is wrong with the form of a URL, in words that quote nothing of it."""


@dataclass(frozen=True)
class _Address:
    """What a URL with several hosts says; `options` are redis-py's, credentials included."""

    hosts: Sequence[tuple[str, int]]
    path: Sequence[str]
    options: dict[str, Any]

    @classmethod
    def parse(cls, url: str, port: int) -> "_Address":
        parts = urlsplit(url)
        credentials, at, hosts = parts.netloc.rpartition("@")
        split = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not all(host.hostname for host in split):
            raise _UrlError("a host is missing")
        tls = parts.scheme.startswith("rediss")
        options = dict(parse_url(f"{'rediss' if tls else 'redis'}://{credentials}{at}host?{parts.query}"))
        for name in ("host", "connection_class"):
            options.pop(name, None)
        return cls(
            hosts=[(str(host.hostname), host.port or port) for host in split],
            path=[unquote(part) for part in parts.path.split("/") if part],
            options=_bounds() | options | ({"ssl": True} if tls else {}),
        )


def _bounds() -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_SECONDS_MAX,
        "socket_timeout": COMMAND_SECONDS_MAX,
        "retry": Retry(ExponentialBackoff(cap=RETRY_SECONDS_MAX, base=RETRY_SECONDS_FIRST), RETRIES),
        "protocol": 2,  # nothing here needs RESP3, and its handshake is longer
    }


def _single(url: str) -> Redis:
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and (not parts.hostname or (database and not database.isdecimal())):
        raise _UrlError("it needs a host, and after it nothing but the number of a database")
    client = Redis.from_url(url, **_bounds())
    _pack_in_c(client)
    return _checked(client)


def _sentinel(address: _Address) -> tuple[Redis, Sequence[Redis]]:
    primary, *database = address.path or [""]
    if not primary or len(database) > 1 or not "".join(database or "0").isdecimal():
        raise _UrlError("name the primary, and at most a database, after the hosts: /mymaster/0")
    options = address.options | {"db": int(database[0]) if database else 0}
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    shared = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
    sentinel = Sentinel(address.hosts, sentinel_kwargs=shared | own, **options)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(primary)
    _pack_in_c(client)
    return _checked(client), sentinel.sentinels


def _cluster(address: _Address) -> RedisCluster:
    if address.path:
        raise _UrlError("a cluster has no databases: leave out what follows the hosts")
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, **address.options)


def _pack_in_c(client: Redis) -> None:
    """Have hiredis pack commands: redis-py has it do so for synchronous clients alone, and a batch has many words."""
    pool = client.connection_pool
    pool.connection_class = type("PackingConnection", (pool.connection_class,), {"pack_command": _pack})


def _pack(_connection: object, *words: Any) -> list[bytes]:
    packed: list[bytes] = PACKER.pack(*words)
    return packed


def _checked(client: Redis) -> Redis:
    """Make a connection object (which does not connect): redis-py finds unknown options only then."""
    client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    return client
