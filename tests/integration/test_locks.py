"""The one behavioural suite that every lock backend passes."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from tests.support.lock_env import KINDS, LockSite, all_sites

from stripedjob.locks import LockBackend

LONG_MS = 60_000
SHORT_MS = 80
TRIES_MAX = 1_000
JOBS = count()


@pytest.fixture(scope="session")
def sites(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str, postgres_url: str
) -> Iterator[dict[str, LockSite]]:
    with all_sites(Path(tmp_path_factory.mktemp("sites")), valkey_url, postgres_url) as found:
        yield found


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, sites: dict[str, LockSite]) -> LockSite:
    """A job that nobody has used yet."""
    return LockSite(replace(sites[request.param].settings, job_type=f"job-{next(JOBS)}"))


async def granted_in_the_end(lock: LockBackend, resource: str, token: str) -> None:
    for _ in range(TRIES_MAX):
        if await lock.acquire([resource], [token], LONG_MS) == [0]:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{resource} was not granted in {TRIES_MAX} tries")


async def test_a_batch_is_granted_where_free_and_refused_where_held(site: LockSite) -> None:
    async with site.lock() as ours, site.lock() as theirs:
        assert await theirs.acquire(["b"], ["theirs:1"], LONG_MS) == [0]
        first, second, third = await ours.acquire(["c", "b", "a"], ["ours:1", "ours:2", "ours:3"], LONG_MS)
        assert (first, third) == (0, 0)
        assert LONG_MS / 2 < second <= LONG_MS
        assert await ours.release(["a", "b", "c"], ["ours:3", "ours:2", "ours:1"]) == [True, False, True]
        assert await theirs.release(["b"], ["theirs:1"]) == [True]


async def test_who_holds_a_lock_is_seen_with_how_long_still(site: LockSite) -> None:
    async with site.lock() as lock:
        assert await lock.look("a/ü\n") is None
        await lock.acquire(["a/ü\n"], ["x:1"], LONG_MS)
        held = await lock.look("a/ü\n")
        assert held is not None
        assert held == ("x:1", held.ms_left)
        assert LONG_MS / 2 < (held.ms_left or 0) <= LONG_MS
        await lock.acquire(["b"], ["x:2"], 1)
        await asyncio.sleep(0.01)
        assert await lock.look("b") is None


async def test_an_empty_batch_is_nothing(site: LockSite) -> None:
    async with site.lock() as lock:
        assert await lock.acquire([], [], LONG_MS) == []
        assert await lock.renew([], [], LONG_MS) == []
        assert await lock.release([], []) == []


async def test_a_senseless_batch_is_the_callers_mistake(site: LockSite) -> None:
    async with site.lock() as lock:
        with pytest.raises(ValueError, match="distinct"):
            await lock.acquire(["a", "a"], ["x:1", "x:2"], LONG_MS)
        with pytest.raises(ValueError, match="2 resources with 1 tokens"):
            await lock.release(["a", "b"], ["x:1"])
        with pytest.raises(ValueError, match="at least 1 ms"):
            await lock.acquire(["a"], ["x:1"], 0)


async def test_the_same_token_is_granted_again_and_its_time_begins_anew(site: LockSite) -> None:
    async with site.lock() as lock:
        await lock.acquire(["a"], ["x:1"], LONG_MS)
        assert await lock.acquire(["a"], ["x:1"], 2 * LONG_MS) == [0]
        (left_ms,) = await lock.acquire(["a"], ["x:2"], 1)
        assert left_ms > LONG_MS


@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A39")
async def test_another_token_is_refused_within_one_process_too(site: LockSite) -> None:
    async with site.lock() as lock:
        await lock.acquire(["a"], ["x:1"], LONG_MS)
        assert (await lock.acquire(["a"], ["x:2"], LONG_MS))[0] > 0


@pytest.mark.acceptance("A34")
@pytest.mark.acceptance("A39")
async def test_the_lock_of_a_dead_holder_expires(site: LockSite) -> None:
    async with site.lock() as dead:
        await dead.acquire(["a"], ["dead:1"], SHORT_MS)
    async with site.lock() as heir:
        await granted_in_the_end(heir, "a", "heir:2")


@pytest.mark.acceptance("A36")
@pytest.mark.acceptance("A39")
async def test_a_late_release_does_not_free_the_next_holders_lock(site: LockSite) -> None:
    async with site.lock() as a, site.lock() as b, site.lock() as c:
        await a.acquire(["r"], ["a:1"], SHORT_MS)
        await granted_in_the_end(b, "r", "b:2")
        assert await a.release(["r"], ["a:1"]) == [False]
        assert (await c.acquire(["r"], ["c:3"], LONG_MS))[0] > 0


@pytest.mark.acceptance("A37")
@pytest.mark.acceptance("A39")
async def test_a_refusal_does_not_linger(site: LockSite) -> None:
    resources = [f"r{number}" for number in range(10)]
    a_tokens, b_tokens = ["a:1"] * 10, ["b:2"] * 10
    async with site.lock() as a, site.lock() as b:
        await a.acquire(resources[:1], a_tokens[:1], LONG_MS)
        assert (await b.acquire(resources, b_tokens, LONG_MS)).count(0) == 9
        assert (await b.acquire(resources[:1], ["b:3"], LONG_MS))[0] > 0
        await a.release(resources[:1], a_tokens[:1])
        assert await b.acquire(resources[:1], ["b:3"], LONG_MS) == [0]


async def test_a_renewal_extends_what_is_ours_and_takes_what_has_vanished(site: LockSite) -> None:
    async with site.lock() as ours, site.lock() as theirs:
        await ours.acquire(["kept", "vanished"], ["o:1", "o:2"], LONG_MS)
        await ours.release(["vanished"], ["o:2"])
        await theirs.acquire(["lost"], ["t:1"], LONG_MS)
        assert await ours.renew(["lost", "kept", "vanished"], ["o:3", "o:1", "o:2"], 2 * LONG_MS) == [
            False,
            True,
            True,
        ]
        assert all(left_ms > LONG_MS for left_ms in await theirs.acquire(["kept", "vanished"], ["t:2"] * 2, 1))


@pytest.mark.acceptance("A12")
async def test_flush_removes_this_jobs_locks_and_no_others(site: LockSite) -> None:
    job = site.settings.job_type
    many = [f"r{number}" for number in range(2_500)]
    async with site.lock() as lock:
        await lock.acquire(many, ["x:1"] * len(many), LONG_MS)
    if site.settings.backend == "Postgres":
        others = [{"job_type": f"{job}x"}, {"namespace": "other"}]
    else:
        others = [{"job_type": f"{job}x"}, {"namespace": "other"}, {"prefix": "other"}, {"prefix": "*"}]
    for other in others:
        async with site.lock(**other) as lock:
            await lock.acquire(["r1"], ["x:1"], LONG_MS)
    async with site.lock() as lock:
        assert await lock.flush() == len(many)
        assert await lock.flush() == 0
        assert await lock.acquire(many, ["y:2"] * len(many), LONG_MS) == [0] * len(many)
    for other in others:
        async with site.lock(**other) as lock:
            assert (await lock.acquire(["r1"], ["y:2"], LONG_MS))[0] > 0


async def test_huge_fences_survive_exactly(site: LockSite) -> None:
    fence = 2**62
    async with site.lock() as lock:
        await lock.acquire(["a"], [f"w:{fence + 1}"], LONG_MS)
        assert await lock.release(["a"], [f"w:{fence}"]) == [False]
        assert await lock.release(["a"], [f"w:{fence + 1}"]) == [True]


async def test_a_thousand_resources_in_one_call(site: LockSite) -> None:
    resources = [f"listing {number}" for number in range(1_000)]
    tokens = [f"w:{number}" for number in range(1_000)]
    async with site.lock() as lock:
        assert await lock.acquire(resources, tokens, LONG_MS) == [0] * 1_000
        assert await lock.renew(resources, tokens, LONG_MS) == [True] * 1_000
        assert await lock.release(resources, tokens) == [True] * 1_000


async def test_odd_names_are_names(site: LockSite) -> None:
    odd = [
        "",
        " ",
        "a b",
        "{",
        "}",
        "{}",
        "}{x",
        "a\nb",
        "\t",
        "*",
        "?",
        "[a]",
        "\\",
        "%s",
        "%(x)s",
        "'",
        '"',
        "$1",
    ]
    odd += [
        "emoji \N{PINEAPPLE}",
        "\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}",
        "é",
        "x" * 512,
        "ü" * 256,
    ]
    for change in ({}, {"job_type": "}{* %s 🍍"}, {"namespace": "{}"}):
        async with site.lock(**change) as lock:
            tokens = [f"w:{number}" for number in range(len(odd))]
            assert await lock.acquire(odd, tokens, LONG_MS) == [0] * len(odd)
            assert all(await lock.acquire(odd, ["other:1"] * len(odd), LONG_MS))
            assert await lock.flush() == len(odd)


async def test_random_calls_agree_with_a_model(site: LockSite) -> None:
    chance = random.Random(7)
    names, tokens = ["a", "b", "c", "d", "e"], ["x:1", "y:2", "z:3"]
    holders: dict[str, str] = {}
    async with site.lock() as lock:
        for _ in range(200):
            resources = chance.sample(names, chance.randint(1, 5))
            token = chance.choice(tokens)
            batch = (resources, [token] * len(resources))
            free_or_ours = [holders.get(name, token) == token for name in resources]
            match chance.choice(["acquire", "renew", "release"]):
                case "acquire":
                    assert [not wait_ms for wait_ms in await lock.acquire(*batch, LONG_MS)] == free_or_ours
                    holders |= {name: token for name, free in zip(resources, free_or_ours, strict=True) if free}
                case "renew":
                    assert await lock.renew(*batch, LONG_MS) == free_or_ours
                    holders |= {name: token for name, free in zip(resources, free_or_ours, strict=True) if free}
                case _:
                    held = [holders.get(name) == token for name in resources]
                    assert await lock.release(*batch) == held
                    holders = {name: by for name, by in holders.items() if by != token or name not in resources}


@pytest.mark.acceptance("A30")
@pytest.mark.acceptance("A39")
async def test_no_two_clients_ever_hold_one_resource(site: LockSite) -> None:
    names = [f"r{number}" for number in range(12)]
    inside: set[str] = set()
    entries = 0

    async def client(number: int) -> None:
        nonlocal entries
        chance = random.Random(number)
        async with site.lock() as lock:
            for turn in range(40):
                resources = chance.sample(names, 6)
                tokens = [f"client-{number}:{turn}"] * 6
                waits_ms = await lock.acquire(resources, tokens, LONG_MS)
                mine = [name for name, wait_ms in zip(resources, waits_ms, strict=True) if wait_ms == 0]
                assert inside.isdisjoint(mine)
                inside.update(mine)
                entries += len(mine)
                await asyncio.sleep(0)
                inside.difference_update(mine)
                assert await lock.release(mine, tokens[: len(mine)]) == [True] * len(mine)

    await asyncio.gather(*(client(number) for number in range(8)))
    assert entries > len(names)


async def test_ping_checks_the_set_up(site: LockSite) -> None:
    async with site.lock() as lock:
        await lock.ping()
