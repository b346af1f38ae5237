"""The places where locks can be kept, each a real server, in the form that the behavioural suite needs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from tests.support.engines import new_database, running
from tests.support.valkey import ClusterValkey, SentinelValkey, TcpValkey, make_certificate, tls_front

from stripedjob.locks import LockBackend, LockSettings, open_lock
from stripedjob.pool.install.migrate import migrate


@dataclass(frozen=True)
class LockSite:
    """One backend on one server; `lock()` opens it again, as another process would."""

    settings: LockSettings

    def lock(self, **changes: Any) -> LockBackend:
        return open_lock(replace(self.settings, **changes))


def redis_site(url: str) -> LockSite:
    return LockSite(LockSettings(backend="Redis", url=url, namespace="default", job_type="listing-sync"))


def postgres_site(url: str, schema: str = "striped") -> LockSite:
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection, schema)
    settings = LockSettings(backend="Postgres", url=url, namespace="default", job_type="listing-sync", schema=schema)
    return LockSite(settings)


@contextmanager
def tls_site(home: Path) -> Iterator[LockSite]:
    server = TcpValkey(home)
    certificate, key = make_certificate(home)
    with running(server), tls_front(server.socket_path, certificate, key) as port:
        yield redis_site(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")


@contextmanager
def sentinel_site(home: Path) -> Iterator[LockSite]:
    primary = TcpValkey(home / "primary")
    sentinel = SentinelValkey(home / "sentinel", primary.port)
    with running(primary, sentinel):
        yield redis_site(sentinel.url)


@contextmanager
def cluster_site(home: Path) -> Iterator[LockSite]:
    server = ClusterValkey(home)
    with running(server):
        yield redis_site(server.url)


KINDS = ("valkey", "sentinel", "cluster", "tls", "postgres")


@contextmanager
def all_sites(home: Path, valkey_url: str, postgres_url: str) -> Iterator[dict[str, LockSite]]:
    """Every kind of site, up for a whole session."""
    with ExitStack() as stack:
        yield {
            "valkey": redis_site(valkey_url),
            "sentinel": stack.enter_context(sentinel_site(home / "sentinel")),
            "cluster": stack.enter_context(cluster_site(home / "cluster")),
            "tls": stack.enter_context(tls_site(home / "tls")),
            "postgres": postgres_site(stack.enter_context(new_database(postgres_url))),
        }
