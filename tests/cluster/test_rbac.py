"""What operator and workers may do: the chart's own rules, and nothing that goes unused.

The operator runs here as its ServiceAccount, through all that it ever does; the API server's audit log says what it
asked for. A rule that is not used fails the test, and so does a request that no rule allows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from tests.cluster_kit.fixtures import await_, unavailable
from tests.cluster_kit.home import LOGS, ROOT
from tests.support.operators import Jobs, Operator

import stripedjob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster_kit.fixtures import Program, RunningCluster

CHART = ROOT / "deploy" / "helm" / "stripedjob"
ACCOUNT = "rbac-operator"  # of release `rbac`
AUDIT = LOGS / "audit.log"
CREATED, FORBIDDEN = 201, 403
Right = tuple[str, str, str]  # API group, resource with its subresource, verb


@dataclass(frozen=True)
class Installed:
    """The chart without a pod of its own, and an operator on this machine that logs in as its ServiceAccount."""

    kubectl: Program
    operator: Operator

    def granted(self) -> set[Right]:
        """Return all that its Roles and ClusterRoles say."""
        rights: set[Right] = set()
        for kind, binding in (("role", "rolebindings"), ("clusterrole", "clusterrolebindings")):
            for one in self.kubectl.json("get", binding)["items"]:
                accounts = [subject.get("name") for subject in one.get("subjects", [])]
                if ACCOUNT in accounts and one["subjects"][0]["namespace"] == self.kubectl.namespace:
                    assert len(accounts) == 1
                    rights |= _rights(self.kubectl.json("get", kind, one["roleRef"]["name"])["rules"])
        return rights

    def asked(self) -> tuple[set[Right], set[Right]]:
        """Return what it asked for, and what of it was refused."""
        user = f"system:serviceaccount:{self.kubectl.namespace}:{ACCOUNT}"
        used, refused = set(), set()
        for line in AUDIT.read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"] != user or "objectRef" not in entry:
                continue
            about = entry["objectRef"]
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            right = (about.get("apiGroup", ""), resource, entry["verb"])
            used.add(right)
            if entry["responseStatus"]["code"] == FORBIDDEN:
                refused.add(right)
            if entry["responseStatus"]["code"] == CREATED:  # by server-side apply too, which is a patch
                used.add((*right[:2], "create"))
        return used, refused


def _rights(rules: list[dict[str, Any]]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(params=["in one namespace", "in all namespaces"])
def installed(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    cluster: RunningCluster,
    crd: None,  # noqa: ARG001
    helm: Program,
    kubectl: Program,
    tmp_path: Path,
) -> Iterator[Installed]:
    if not AUDIT.exists():
        unavailable("this cluster's API server keeps no audit log")
    alone = request.param == "in one namespace"
    cluster.await_gone()  # nothing can be made in a namespace that is leaving, which would count as refused
    values = {"replicas": 0, "crds": {"install": False}, "namespaces": [kubectl.namespace] if alone else []}
    helm("install", "rbac", CHART, "--values", "-", stdin=yaml.safe_dump(values))
    token = kubectl("create", "token", ACCOUNT, "--duration=1h").strip()
    config = yaml.safe_load(kubectl("config", "view", "--raw"))
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    args = ("--lease", ACCOUNT, *(() if alone else ("--namespaces", "")))
    operator = Operator(str(file), kubectl.namespace, tmp_path / "operator.log", args)
    try:
        yield Installed(kubectl, operator.start())
    finally:
        operator.stop()
        helm("uninstall", "rbac")


def made(jobs: Jobs) -> list[str]:
    """Return the kinds of what there is for the job."""
    names = jobs.kubectl("get", "networkpolicies,pdb,serviceaccounts,deployments", "-o", "name").split()
    return [name.split("/")[0].split(".")[0] for name in names if name.endswith("/job-worker")]


def test_the_operator_may_do_what_it_does_and_no_more(
    installed: Installed, jobs: Jobs, namespace: str, fresh_database: str
) -> None:
    pool = jobs.make()["spec"]["pool"] | {"deletionPolicy": "Delete"}
    jobs.apply(pool=pool, minWorkers=2, networkPolicy=True)
    await_("workers and all that is theirs", lambda: len(jobs.kubectl.json("get", "pods")["items"]) == 2, 60)
    assert set(made(jobs)) == {"networkpolicy", "poddisruptionbudget", "serviceaccount", "deployment"}
    jobs.apply(pool=pool, minWorkers=1, scaling={"scaleDownDelaySeconds": 0})
    await_("fewer, the idle first", lambda: jobs.replicas() == 1, 30)
    await_("no NetworkPolicy", lambda: "networkpolicy" not in made(jobs), 30)
    with psycopg.connect(fresh_database) as conn:
        stripedjob.enqueue(conn, "job", stripedjob.NewUnit(resource="a"), namespace=namespace)
    jobs.kubectl("delete", "stripedjob", "job", "--timeout=60s")
    assert installed.operator.stop() == 0
    granted = installed.granted()
    assert not [right for right in granted if "*" in "".join(right)], "a wildcard"
    await_("the watches have ended", lambda: len({one for one in installed.asked()[0] if one[2] == "watch"}) == 3, 30)
    used, refused = installed.asked()
    assert refused == set()
    assert granted - used == set(), "granted, and never used"
    assert used - granted == set(), "used, and not granted by the chart"


def test_the_lease_is_its_own_alone(installed: Installed) -> None:
    rules = installed.kubectl.json("get", "role", f"{ACCOUNT}-lease")["rules"]
    named = [rule for rule in rules if rule.get("resourceNames")]
    assert [(rule["resourceNames"], sorted(rule["verbs"])) for rule in named] == [([ACCOUNT], ["get", "update"])]
    assert [rule["verbs"] for rule in rules if rule not in named] == [["create"]]  # it has no name yet


def test_workers_may_do_nothing(installed: Installed, jobs: Jobs) -> None:
    jobs.apply(minWorkers=1)
    (pod,) = await_("a worker", lambda: jobs.kubectl.json("get", "pods")["items"], 60)
    spec = pod["spec"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("job-worker", False)
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"], "no token"

    def rights(account: str) -> str:
        user = f"system:serviceaccount:{jobs.kubectl.namespace}:{account}"
        return jobs.kubectl("auth", "can-i", "--list", f"--as={user}", "--as-group=system:authenticated")

    assert rights("job-worker") == rights("nobody"), "what everybody may who is logged in"
    assert installed.operator.stop() == 0


def test_a_right_that_is_missing_becomes_a_condition_and_heals(installed: Installed, jobs: Jobs) -> None:
    kind = (
        "role" if jobs.kubectl.json("get", "roles")["items"][-1]["metadata"]["name"].endswith("jobs") else "clusterrole"
    )
    name = "rbac-operator-stripedjobs" if kind == "role" else f"{jobs.kubectl.namespace}-rbac-operator"
    rules = jobs.kubectl.json("get", kind, name)["rules"]
    without = [rule for rule in rules if rule["resources"] != ["secrets"]]
    jobs.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"rules": without}))
    jobs.apply()
    condition = jobs.until("PoolReachable", "SecretForbidden")
    assert (
        f'cannot get resource "secrets" in API group "" in the namespace "{jobs.kubectl.namespace}"'
        in condition["message"]
    )
    jobs.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"rules": rules}))
    jobs.until("Ready", "Idle", seconds=45)
    assert installed.operator.stop() == 0
