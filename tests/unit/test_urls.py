"""URLs as people get them wrong: each mistake is found, and nothing secret is shown."""

from __future__ import annotations

import pytest

from stripedjob.urls import mistake_in, shown

RIGHT = {
    "postgresql://app:pw@db:5432/pool": "postgresql://db:5432/pool",
    "postgresql:///pool?host=/run/postgresql": "postgresql:///pool",
    "postgresql://app@/pool?host=/tmp/a@b": "postgresql:///pool",
    "postgresql://app:p%40%2F%3F%23%25w@db/pool": "postgresql://db/pool",
    "postgresql://app:pw@one:1,two:2/pool": "postgresql://one:1,two:2/pool",
    "postgresql://app:pw@[::1]:5432/pool": "postgresql://[::1]:5432/pool",
    "redis+sentinel://u:pw@h1:1,h2:2/main/0?sentinel_password=pw": "redis+sentinel://h1:1,h2:2/main/0",
    "unix:///run/valkey.sock?db=1": "unix:///run/valkey.sock",
}
WRONG = [
    "postgres//app:s3cr3t@db/pool",
    "'postgresql://app:s3cr3t@db/pool'",
    "app:s3cr3t@db/pool",
    *(f"postgresql://app:s3{mark}cr3t@db/pool" for mark in "@/% "),
    *(f"redis://:s3{mark}cr3t@h:6379/0" for mark in "/?#"),
    "postgresql://app:s3cr3t@db:five/pool",
    "postgresql://app:s3cr3t",
    "redis://:s3cr3t@[h/0",
]


@pytest.mark.parametrize(("url", "without_secrets"), RIGHT.items())
def test_a_url_is_shown_without_user_password_and_options(url: str, without_secrets: str) -> None:
    assert mistake_in(url) is None
    assert shown(url) == without_secrets


@pytest.mark.parametrize("mark", "@:% ")
def test_what_can_be_told_apart_need_not_be_encoded_everywhere(mark: str) -> None:
    url = f"redis://:s3{mark}cr3t@h:6379/0"
    assert mistake_in(url) is None
    assert shown(url) == "redis://h:6379/0"


@pytest.mark.parametrize("mark", ":?#")
def test_libpq_reads_more_than_others(mark: str) -> None:
    url = f"postgresql://app:s3{mark}cr3t@db/pool"
    assert mistake_in(url, encoded=True) is None
    assert shown(url) == "postgresql://db/pool"


@pytest.mark.parametrize("url", WRONG)
def test_a_mistake_is_named_and_nothing_is_quoted(url: str) -> None:
    mistake = mistake_in(url, encoded=url.startswith("postgresql"))
    said = f"{mistake} {shown(url)}"
    assert mistake
    assert not any(part in said for part in ("s3", "cr3t", "app"))
