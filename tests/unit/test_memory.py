from __future__ import annotations

from tests.support.factories import job, raw

from stripedjob_operator.job_states import JobStates, read
from stripedjob_operator.observed import Key, Problem

OLDER, YOUNGER = ("shop", "listing"), ("shop", "copy")
SECRET = {"name": "databases", "key": "postgres"}


def seen(key: Key, created: str, generation: int = 1) -> dict[str, object]:
    return raw(key[1], uid=key[1], metadata={"creationTimestamp": created, "generation": generation})


def test_the_younger_of_two_with_one_pool_waits_until_the_older_leaves_it() -> None:
    woken: list[Key] = []
    memories = JobStates(woken.append)
    older = memories.of(OLDER, seen(OLDER, "1"), job())
    pool = {"secretRef": SECRET, "deletionPolicy": "Delete"}  # which is the same pool
    younger = memories.of(YOUNGER, seen(YOUNGER, "2"), job("copy", jobType="listing", pool=pool))
    assert woken == [OLDER]
    assert memories.conflict(older) is None
    conflict = memories.conflict(younger)
    assert conflict is not None
    assert conflict.message.startswith('StripedJob "listing" is older')
    memories.of(OLDER, seen(OLDER, "1", 2), job(jobType="other"))
    assert woken == [OLDER, YOUNGER]
    assert memories.conflict(younger) is None
    memories.of(OLDER, seen(OLDER, "1", 3), job())
    assert memories.conflict(younger) is not None
    memories.forget(OLDER)
    assert memories.conflict(younger) is None


def test_pools_that_differ_have_no_conflicts() -> None:
    memories = JobStates(lambda _: None)
    memories.of(OLDER, seen(OLDER, "1"), job())
    for pool in ({"secretRef": SECRET, "schema": "other"}, {"secretRef": SECRET | {"name": "others"}}):
        memory = memories.of(YOUNGER, seen(YOUNGER, "2"), job("copy", jobType="listing", pool=pool))
        assert memories.conflict(memory) is None
        memories.forget(YOUNGER)


def test_one_that_cannot_be_read_has_no_pool() -> None:
    memories = JobStates(lambda _: None)
    unread, problem = read(seen(OLDER, "1") | {"spec": '{"handler": {"python": 5}}'})
    assert unread is None
    assert isinstance(problem, Problem)
    assert problem.reason == "InvalidSpec"
    assert "spec.handler.python" in problem.message
    assert memories.conflict(memories.of(OLDER, seen(OLDER, "1"), unread)) is None
