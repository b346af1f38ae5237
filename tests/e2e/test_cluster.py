"""The test cluster is a real one: restricted pods, Services, names, logs, exec; and it leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster_kit.fixtures import await_
from tests.cluster_kit.images import WORKER

if TYPE_CHECKING:
    from tests.support.pods import Site

SCRIPT = """
import os, socket, time
import psycopg, redis
print("resolved", socket.gethostbyname("postgres"), flush=True)
with psycopg.connect(os.environ["POSTGRES"]) as conn:
    print("postgres", conn.execute("select 6 * 7").fetchone()[0], flush=True)
print("redis", redis.Redis.from_url(os.environ["REDIS"]).ping(), flush=True)
open("/tmp/ready", "w").close()
time.sleep(600)
"""


def test_a_restricted_deployment_reaches_the_databases_by_name(site: Site) -> None:
    kubectl = site.kubectl
    env = [
        {"name": key.upper(), "valueFrom": {"secretKeyRef": {"name": site.databases.secret, "key": key}}}
        for key in ("postgres", "redis")
    ]
    container = {
        "name": "probe",
        "image": WORKER.name,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SCRIPT],
        "env": env,
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    labels = {"app": "probe"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    kubectl.apply(deployment)
    kubectl("rollout", "status", "deployment/probe", "--timeout=60s")
    logs = kubectl("logs", "deployment/probe")
    address = kubectl("get", "service", "postgres", "-o", "jsonpath={.spec.clusterIP}")
    assert logs.splitlines() == [f"resolved {address}", "postgres 42", "redis True"]
    assert kubectl("exec", "deployment/probe", "--", "id", "-u").strip() == "10001"
    assert site.one("select 6 * 7") == 42  # from here, by a port-forward
    kubectl("delete", "deployment", "probe")
    await_("its pods are gone", lambda: kubectl("get", "pods", "-l", "app=probe", "-o", "name") == "")
