"""What `stripedjob run` hands to its workers is what a pod makes of its StripedJob, and costs no model to read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.support.factories import job

from stripedjob.runtime.settings import Plan, worker_settings
from stripedjob.settings import worker_spec
from stripedjob.spec.load import parse

HANDLERS = [
    {"python": "a:b"},
    {"python": "a:b", "transaction": True, "per": "Resource"},
    {"exec": ["sh", "-c", "true"]},
    {"http": "http://x/y"},
]
RESOURCE = {"apiVersion": "striped.dev/v1alpha1", "kind": "StripedJob", "metadata": {"name": "a"}}
IMPORTS = """
import sys
import stripedjob.runtime.service
from stripedjob.runtime.settings import Plan
print(Plan.unpacked(sys.argv[1]).job_type, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("handler", HANDLERS, ids=str)
def test_a_plan_is_the_same_whichever_way_it_goes(handler: dict[str, object]) -> None:
    spec = {"handler": handler, "concurrency": 3, "retry": {"onFailure": "Block"}, "drainSeconds": 7}
    whole = parse(json.dumps(RESOURCE | {"spec": spec}))
    plan = Plan.of(whole, "postgresql://x/y", "redis://z", "/path")
    assert Plan.unpacked(plan.packed()) == plan
    assert Plan.of(parse(worker_spec(whole)), "postgresql://x/y", "redis://z", "/path") == plan
    worker, config = plan.for_process(5, "w", "session")
    assert (worker.job_id, worker.name, worker.backend_name, worker.drain_seconds) == (5, "w", "session", 7)
    database = config.handler.database
    assert (database is not None) == bool(handler.get("transaction"))
    assert database is None or (database.job_id, database.session_name) == (5, "session")


@pytest.mark.parametrize(("strategy", "gathers"), [("Mutex", True), ("FIFO", True), ("Delegator", False)])
def test_who_claims_by_itself_gathers_and_who_is_given_work_does_not(strategy: str, *, gathers: bool) -> None:
    assert worker_settings(job(strategy=strategy), 1, "w", "session").gathers == gathers


def test_a_worker_reads_its_plan_without_the_model_and_counts_without_prometheus() -> None:
    whole = parse(json.dumps(RESOURCE | {"spec": {"handler": HANDLERS[0]}}))
    plan = Plan.of(whole, "postgresql://x/y", "redis://z", "/path")
    done = subprocess.run([sys.executable, "-c", IMPORTS, plan.packed()], capture_output=True, text=True, check=True)
    job_type, *modules = done.stdout.split()
    assert (job_type, {"pydantic", "yaml", "prometheus_client"} & set(modules)) == ("a", set())
