"""Who sees what of the page in a cluster: as the API server judges, asked seldom, and nobody else anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from stripedjob.ui.access import AccessError, Everybody, seen_by
from stripedjob.ui.deeds import Deed
from stripedjob.ui.security import Rights
from stripedjob.ui.views import DeedView, FindView, JobsView, JobView, UnitView
from stripedjob_operator.cluster import ApiUnreachableError, Cluster
from stripedjob_operator.page import KEPT_SECONDS, ApiAccess

ALL = Rights(actions=True, payloads=True)
USERS: dict[str, dict[str, Any]] = {
    "ann's": {"username": "ann", "uid": "1", "groups": ["shop"], "extra": {"scopes": ["a", "b"]}},
    "bob's": {"username": "bob"},
}
RULES = {("ann", "get", "shop"), ("ann", "update", "shop"), ("ann", "get", "mail"), ("bob", "get", "mail")}


@dataclass
class FakeCluster:
    """An API server with two users."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    users: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(USERS))
    away: bool = False

    async def review(self, group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((f"{group} {kind}", spec))
        if self.away:
            raise ApiUnreachableError("the API server does not answer")
        if kind == "TokenReview":
            user = self.users.get(spec["token"])
            return {"authenticated": True, "user": user} if user else {"error": "no"}
        about = spec["resourceAttributes"]
        assert (about["group"], about["resource"]) == ("striped.dev", "stripedjobs")
        return {"allowed": (spec["user"], about["verb"], about["namespace"]) in RULES}


def access(cluster: FakeCluster, at: list[float] | None = None, **options: Any) -> ApiAccess:
    times = at or [0.0]
    return ApiAccess(cast("Cluster", cluster), options.pop("allowed", ALL), now=lambda: times[-1], **options)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def rights(of: ApiAccess, headers: dict[str, str], namespace: str) -> Rights | str | None:
    viewer = await of.viewer(headers)
    return "nobody" if viewer is None else await viewer.rights(namespace)


@pytest.mark.parametrize(
    ("headers", "namespace", "expected"),
    [
        (bearer("ann's"), "shop", ALL),
        (bearer("ann's"), "mail", Rights(payloads=True)),
        (bearer("ann's"), "bank", None),
        (bearer("bob's"), "mail", Rights(payloads=True)),
        (bearer("bob's"), "shop", None),
        ({"Authorization": "bearer ann's"}, "shop", ALL),
        (bearer("eve's"), "shop", "nobody"),
        (bearer(""), "shop", "nobody"),
        ({"Authorization": "Basic ann's"}, "shop", "nobody"),
        ({"X-Forwarded-User": "ann"}, "shop", "nobody"),
        ({}, "shop", "nobody"),
    ],
)
def test_the_api_server_says_who_may_what(headers: dict[str, str], namespace: str, expected: object) -> None:
    assert asyncio.run(rights(access(FakeCluster()), headers, namespace)) == expected


def test_what_the_page_may_do_is_the_most() -> None:
    only_look = access(FakeCluster(), allowed=Rights())
    assert asyncio.run(rights(only_look, bearer("ann's"), "shop")) == Rights()


def test_a_proxy_is_believed_where_it_is_told() -> None:
    cluster = FakeCluster()
    headers = {"X-Forwarded-User": "ann", "X-Forwarded-Groups": "shop, system:authenticated,"}
    assert asyncio.run(rights(access(cluster, trusts_proxy=True), headers, "shop")) == ALL
    assert cluster.asked[0][1]["groups"] == ["shop", "system:authenticated"]
    assert asyncio.run(rights(access(cluster, trusts_proxy=True), bearer("bob's"), "mail")) == Rights(payloads=True)


def test_all_that_is_known_of_somebody_is_judged() -> None:
    cluster = FakeCluster()
    asyncio.run(rights(access(cluster), bearer("ann's"), "shop"))
    (_, spec) = cluster.asked[1]
    assert (spec["uid"], spec["groups"], spec["extra"]) == ("1", ["shop"], {"scopes": ["a", "b"]})


def test_answers_are_kept_for_a_while_and_no_longer() -> None:
    cluster, at = FakeCluster(), [0.0]

    async def look() -> None:
        ours = access(cluster, at)
        viewer = await ours.viewer(bearer("ann's"))
        assert viewer is not None
        for _ in range(10):
            assert await viewer.rights("shop") == ALL
        assert len(cluster.asked) == 3
        del cluster.users["ann's"]
        assert await viewer.rights("shop") == ALL
        at.append(KEPT_SECONDS)
        assert await viewer.rights("shop") is None  # also a page that is open
        assert await ours.viewer(bearer("ann's")) is None

    asyncio.run(look())


def test_an_api_server_that_is_away_lets_nobody_in() -> None:
    with pytest.raises(AccessError, match="could not be asked"):
        asyncio.run(rights(access(FakeCluster(away=True)), bearer("ann's"), "shop"))


def test_of_a_list_everybody_sees_their_own() -> None:
    jobs = [{"id": 1, "namespace": "shop"}, {"id": 2, "namespace": "mail"}, {"id": 3, "namespace": "bank"}]

    async def look() -> None:
        ours = access(FakeCluster())
        ann, bob = await ours.viewer(bearer("ann's")), await ours.viewer(bearer("bob's"))
        assert ann is not None
        assert bob is not None
        seen = await seen_by(ann, JobsView(), {"jobs": jobs, "now": ""})
        assert [job["id"] for job in seen.data["jobs"]] == [1, 2]
        assert seen.rights == ALL
        other = await seen_by(bob, JobsView(), {"jobs": jobs, "now": ""})
        assert [job["id"] for job in other.data["jobs"]] == [2]
        assert other.key != seen.key
        found = {"jobs": jobs[2:], "unit": {"job": 3, "namespace": "bank", "id": 7}}
        assert (await seen_by(ann, FindView(None, "x"), found)).data == {"jobs": [], "unit": None}
        deed = Deed(1, "shop", "Purge", lambda units, _: f"{units} removed", "/")
        for view, data in (
            (JobView(1), {"status": {"namespace": "shop"}}),
            (UnitView(1, 7, payloads=True), {"namespace": "shop"}),
            (DeedView(1, "x"), deed),
        ):
            assert (await seen_by(ann, view, data)).data == data
            assert (await seen_by(bob, view, data)).data is None

    asyncio.run(look())


def test_on_one_machine_everybody_sees_all() -> None:
    seen = asyncio.run(seen_by(Everybody(ALL), JobsView(), {"jobs": [{"namespace": "shop"}]}))
    assert (len(seen.data["jobs"]), seen.rights) == (1, ALL)
