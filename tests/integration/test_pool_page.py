"""What the page reads of a pool: all there is, page by page, each once; and why most of it is set aside."""

from __future__ import annotations

from hashlib import md5
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.pages import HOSTILE, IN_PAYLOADS, filled

from stripedjob.pool.client import page
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.client.page import FIRST, Chosen
from stripedjob.pool.types import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.queues import Queue

DEAD = {"dead-1", "dead-2", *HOSTILE}
NO_PRICE = md5(b"ValueError: no such price", usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def queue(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture(scope="module")
def pool(queue: Queue) -> Iterator[OwnerPool]:
    with OwnerPool.open(queue.url) as pool:
        yield pool


def pages(pool: OwnerPool, job: int, digest: str | None) -> Iterator[list[Any]]:
    after: Any = FIRST
    while after is not None:
        found = page.aside(pool, job, "dead", digest, tuple(after))
        yield [unit["resource"] for unit in found["units"]]
        after = found["next"]


@pytest.mark.parametrize("units", [1, 2, 4, 50])
def test_pages_of_what_is_set_aside_have_each_unit_once(
    queue: Queue, pool: OwnerPool, monkeypatch: pytest.MonkeyPatch, units: int
) -> None:
    monkeypatch.setattr(page, "UNITS_MAX", units)
    found = list(pages(pool, queue.job_id, None))
    assert max(map(len, found)) <= units
    assert sorted(name for names in found for name in names) == sorted(DEAD)
    of_one_reason = [name for names in pages(pool, queue.job_id, NO_PRICE) for name in names]
    assert of_one_reason == ["dead-1", "dead-2"]


def test_reasons_are_counted(queue: Queue, pool: OwnerPool) -> None:
    by = page.aside(pool, queue.job_id, "dead", None, FIRST)["by"]
    assert by["looked"] == len(DEAD)
    assert by["reasons"][0] == {"digest": NO_PRICE, "reason": "ValueError: no such price", "units": 2}
    assert len(by["reasons"]) == len(DEAD) - 1


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (Chosen("dead"), len(DEAD)),
        (Chosen("held"), 1),
        (Chosen("dead", digest=NO_PRICE), 2),
        (Chosen("dead", resource=HOSTILE[4]), 1),
        (Chosen("dead", resource="held/1"), 0),
        (Chosen("held", digest=NO_PRICE, resource="held/1"), 1),
        (Chosen("dead", unit=-1), 0),
    ],
)
def test_what_is_chosen_comes_once_however_it_is_divided(
    queue: Queue, pool: OwnerPool, monkeypatch: pytest.MonkeyPatch, chosen: Chosen, count: int
) -> None:
    for bound in (1, 3, 2_000):
        monkeypatch.setattr(page, "CHOSEN_MAX", bound)
        ids: list[int] = []
        after: page.Place | None = FIRST
        while after is not None:
            some, after = page.choose(pool, queue.job_id, chosen, after)
            ids += some
        assert len(ids) == len(set(ids)) == count


def test_a_unit_is_chosen_in_its_state_and_job_alone(queue: Queue, pool: OwnerPool) -> None:
    dead = queue.one("select id from striped.unit where resource = 'dead-1'")
    assert page.choose(pool, queue.job_id, Chosen("dead", unit=dead), FIRST) == ([dead], None)
    assert page.choose(pool, queue.job_id, Chosen("held", unit=dead), FIRST) == ([], None)
    assert page.choose(pool, queue.job_id + 1, Chosen("dead", unit=dead), FIRST) == ([], None)


def test_a_job_says_who_holds_what_and_what_waits_why(queue: Queue, pool: OwnerPool) -> None:
    job = page.job(pool, queue.job_id)
    (worker,) = job["workers"]
    (lease,) = worker["leases"]
    assert (lease["resource"], lease["ends_at"]) == ("busy", worker["ends_at"])
    assert lease["fence"] == queue.one("select fence from striped.stripe where resource = 'busy'")
    assert [one["resource"] for one in job["ready"]] == ["ready-1"]
    (waiting,) = job["waiting"]
    assert waiting["resource"] == "late"
    assert waiting["head"]["reason"] == "ValueError: no such price"
    assert job["oldest_at"] is not None
    assert job["times"]["runs"] == []
    assert page.worker(pool, queue.job_id, worker["id"])["worker"]["leases"] == [lease]


def test_payloads_are_read_where_they_are_asked_for_alone(queue: Queue, pool: OwnerPool) -> None:
    dead = queue.one("select id from striped.unit where resource = 'dead-1'")
    for payloads in (False, True):
        for read in (
            page.resource(pool, queue.job_id, "dead-1", payloads=payloads),
            page.unit(pool, queue.job_id, dead, payloads=payloads),
        ):
            assert (IN_PAYLOADS in str(read)) is payloads


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_name_is_found(queue: Queue, pool: OwnerPool, name: str) -> None:
    found = page.find(pool, None, name)
    assert [job["id"] for job in found["jobs"]] == [queue.job_id]
    assert page.resource(pool, queue.job_id, name, payloads=False)["facts"]["dead"] == 1


def test_a_unit_is_found_by_its_id(queue: Queue, pool: OwnerPool) -> None:
    dead = queue.one("select id from striped.unit where resource = 'dead-1'")
    assert page.find(pool, None, str(dead))["unit"] == {"job": queue.job_id, "namespace": "default", "id": dead}
    for nothing in ("-1", "0", "9" * 40, "²", "1e3"):
        assert page.find(pool, None, nothing)["unit"] is None


def test_what_is_not_there_is_none(queue: Queue, pool: OwnerPool) -> None:
    other = queue.job_id + 1
    assert page.job(pool, other) is None
    assert page.name(pool, other) is None
    assert page.worker(pool, queue.job_id, 77) is None
    assert page.unit(pool, queue.job_id, 10**15, payloads=True) is None
    assert page.resource(pool, other, "busy", payloads=True) is None
    assert page.aside(pool, other, "dead", None, FIRST) is None


def test_jobs_come_by_name_page_by_page(pool: OwnerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "JOBS_MAX", 2)
    for name in ("zz", "aa", "mm", "é/b"):
        pool.apply(JobSettings("other" if name == "aa" else "default", name))
    pool.conn.execute("select striped.enqueue('zz', 'not folded yet', '1')")
    names, after = [], ("", "")
    while True:
        found = page.jobs(pool, after)
        names += [(job["namespace"], job["job_type"]) for job in found["jobs"]]
        if not found["more"]:
            break
        after = names[-1]
    assert len(names) == 5
    assert set(names) == {*(("default", name) for name in ("sync", "zz", "mm", "é/b")), ("other", "aa")}
    assert names[-1] == ("other", "aa")
    (zz,) = [job for job in page.jobs(pool, ("default", "sync"))["jobs"] if job["job_type"] == "zz"]
    assert zz["oldest_at"] is not None
