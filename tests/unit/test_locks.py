import subprocess
import sys
from importlib.resources import files
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from stripedjob.locks import LockConfigError, LockError, LockSettings, LockUnavailable, open_lock
from stripedjob.locks.backend import check_batch
from stripedjob.locks.redis import hash_tag
from stripedjob.locks.redis_errors import translated


def settings(url: str, **changes: str) -> LockSettings:
    return LockSettings(**{"backend": "Redis", "url": url, "namespace": "n", "job_type": "j", **changes})  # type: ignore[arg-type]


def test_the_hash_tag_of_plain_names_is_plain() -> None:
    assert hash_tag("stripedjob", "default", "listing-sync") == "{stripedjob:default/listing-sync}"


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_a_hash_tag_has_one_pair_of_braces_whatever_the_names(prefix: str, namespace: str, job: str) -> None:
    tag = hash_tag(prefix, namespace, job)
    assert tag.startswith("{")
    assert tag.index("}") == len(tag) - 1
    assert not set(tag) & set("*?[]\\^")


def test_no_two_jobs_have_the_same_hash_tag() -> None:
    names = ["a", "b", "a:b", "a/b", ":", "/", "%2F", "a%3Ab", "{", "}"]
    tags = {hash_tag(*triple) for triple in product(names, repeat=3)}
    assert len(tags) == len(names) ** 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "url is empty"),
        ("localhost:6379", "does not begin with a scheme"),
        ("http://h", "unknown scheme"),
        ("redis://", "it needs a host"),
        ("redis://h/zero", "number of a database"),
        ("redis://h:port", "cannot be used"),
        ("redis://h?nonsense=1", "an option that is unknown"),
        ("redis+sentinel://h", "name the primary"),
        ("redis+sentinel://h/main/x", "name the primary"),
        ("redis+sentinel://h/main/0/1", "name the primary"),
        ("redis+sentinel://h,/main", "a host is missing"),
        ("redis+sentinel://h/main?nonsense=1", "an option that is unknown"),
        ("redis+cluster://h/0", "no databases"),
        ("redis+cluster://h?nonsense=1", "an option that is unknown"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str, reason: str) -> None:
    with pytest.raises(LockConfigError, match=reason):
        open_lock(settings(url))


@pytest.mark.parametrize("name", ["namespace", "job_type", "prefix", "schema"])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(LockConfigError, match=f"{name} is empty"):
        settings("redis://h", **{name: ""})


def test_passwords_stay_out_of_what_is_shown() -> None:
    url = "redis+sentinel://user:secret@h1:1,h2:2/main/0?sentinel_password=secret"
    assert "secret" not in repr(settings(url))
    with pytest.raises(LockConfigError) as caught:
        open_lock(settings("redis://user:secret@h/zero"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "ours", "way_out"),
    [
        (AuthenticationError("invalid username-password pair"), LockConfigError, "password"),
        (NoPermissionError("no permissions"), LockConfigError, "allow this user"),
        (ResponseError("ACL failure in script: no"), LockConfigError, "allow this user"),
        (MovedError("1 127.0.0.1:7000"), LockConfigError, r"redis\+cluster://"),
        (ResponseError("DB index is out of range"), LockConfigError, "database number"),
        (ResponseError("unknown command 'EVALSHA'"), LockConfigError, "scripts enabled"),
        (BusyLoadingError("Redis is loading the dataset in memory"), LockUnavailable, "wait until it has"),
        (ReadOnlyError("You can't write against a read only replica."), LockUnavailable, "fail-over"),
        # as Redis 6.2 says it from within a script
        (
            ResponseError("Error running script: -READONLY You can't write against a read only replica."),
            LockUnavailable,
            "fail-over",
        ),
        (
            ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
            LockUnavailable,
            "maxmemory",
        ),
        (ClusterDownError("CLUSTERDOWN The cluster is down"), LockUnavailable, "CLUSTER INFO"),
        (RedisTimeoutError("Timeout reading from h:1"), LockUnavailable, "may reach it"),
        (ResponseError("something new"), LockUnavailable, "something new"),
    ],
)
def test_each_error_of_redis_becomes_ours_with_a_way_out(
    error: RedisError, ours: type[LockError], way_out: str
) -> None:
    found = translated(error, "redis://h")
    assert type(found) is ours
    assert "redis://h: " in str(found)
    with pytest.raises(ours, match=way_out):
        raise found


def test_a_batch_has_bounds() -> None:
    check_batch(["a"], ["w:1"])
    many = [str(number) for number in range(10_001)]
    with pytest.raises(ValueError, match="at most 10000"):
        check_batch(many, many)


def test_the_scripts_are_short() -> None:
    for script in files("stripedjob.locks").iterdir():
        if script.name.endswith(".lua"):
            assert len(script.read_text().splitlines()) < 20


@pytest.mark.parametrize(
    ("backend", "url", "imported"), [("Postgres", "postgresql://h", []), ("Redis", "redis://h", ["redis"])]
)
def test_a_backend_imports_what_it_needs(backend: str, url: str, imported: list[str]) -> None:
    """Whoever needs OpenTelemetry after that finds it."""
    code = (
        "import sys; from stripedjob.locks import LockSettings, open_lock;"
        f"open_lock(LockSettings(backend={backend!r}, url={url!r}, namespace='n', job_type='j'));"
        "print([name for name in ('redis', 'opentelemetry') if name in sys.modules]);"
        "import opentelemetry.sdk.trace"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(imported)
