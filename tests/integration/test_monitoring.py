"""The chart's alerts and dashboard, in a real Prometheus that scrapes what the operator shows of a real pool."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from tests.support.prometheus import program
from tests.support.valkey import free_port
from tests.support.wheel import ROOT

from stripedjob.observe.health import serving
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.types import JobSettings
from stripedjob_operator.databases import Databases
from stripedjob_operator.metrics import JobMetrics, OperatorMetrics
from stripedjob_operator.observed import Observed
from stripedjob_operator.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHART = ROOT / "deploy" / "helm" / "stripedjob" / "files"
ALERTS, DASHBOARD = CHART / "alerts.yaml", CHART / "dashboard.json"
KEY = ("shop", "listings")
PATIENCE_SECONDS = 180


class Health:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def is_live(self) -> bool:
        return True

    def problem(self) -> str | None:
        return None


@pytest.fixture
def scraped(fresh_database: str) -> Iterator[int]:
    """An operator's endpoint, whose jobs are in a real pool that is worked on."""
    with OwnerPool.open(fresh_database) as pool:
        pool.migrate()
    health, observed = Health(), Observed()
    conditions = [{"type": "Stalled", "status": "True"}, {"type": "Ready", "status": "False"}]
    observed.jobs[KEY] = {"status": json.dumps({"conditions": conditions})}

    async def run(stop: asyncio.Event) -> None:
        async with Databases(lambda _: None) as databases:
            database = databases.database(KEY, fresh_database, "striped")
            database.want(KEY, JobSettings(namespace="shop", job_type="listings", generation=1, schedule_limit=4))
            metrics = OperatorMetrics(health.registry, WorkQueue(), observed)
            metrics.reconciles.labels("done").inc()
            health.registry.register(JobMetrics(observed, databases))
            await stop.wait()

    with running(run), serving(health, health.registry, 0) as port:
        yield port


@contextlib.contextmanager
def running(run: Any) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(stop)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture
def prometheus(scraped: int, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    target = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}
    config = {"global": {"scrape_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [target]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    arguments = {
        "config.file": tmp_path / "prometheus.yml",
        "storage.tsdb.path": tmp_path / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    with (tmp_path / "log").open("w") as log:
        command = [str(program("prometheus")), *(f"--{name}={value}" for name, value in arguments.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def ask(url: str, query: str) -> list[dict[str, Any]]:
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own
        said = json.load(answer)
    assert said["status"] == "success", said
    found: list[dict[str, Any]] = said["data"]["result"]
    return found


def until(url: str, query: str) -> list[dict[str, Any]]:
    """Ask until there is something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := ask(url, query):
                return found
        time.sleep(0.5)
    raise AssertionError(f"{query}: not within {PATIENCE_SECONDS} s")


def test_each_query_of_the_dashboard_has_an_answer(prometheus: str, fresh_database: str) -> None:
    until(prometheus, 'stripedjob_job_workers{state="limit"} == 4')
    with OwnerPool.open(fresh_database) as pool:
        job_id = pool.job_id("shop", "listings")
        pool.conn.execute("select striped.enqueue('listings', 'r', '1', namespace => 'shop')")
        pool.conn.execute("update striped.flow set ready_in = 5 where job_id = %s", [job_id])
        pool.conn.execute(
            "update striped.job set done = 5, stale = 1, lock_tries = 9, lock_refusals = 2 where id = %s", [job_id]
        )
        for counts in ("{4,1}", "{0,3}"):
            pool.conn.execute("select striped.note_times(%s, %s, 2, %s, 1)", [job_id, counts, counts])
            if counts == "{4,1}":
                until(prometheus, "stripedjob_job_unit_run_seconds_count == 5")
    until(prometheus, 'stripedjob_job_units{state="pending"} == 1')
    until(prometheus, 'stripedjob_job_unit_wait_seconds_bucket{le="0.001"} == 4')
    until(prometheus, "stripedjob_job_unit_wait_seconds_sum == 4")
    until(prometheus, "stripedjob_job_unit_run_seconds_count == 8")
    until(prometheus, "stripedjob_job_oldest_unit_age_seconds > 5")
    until(prometheus, "stripedjob_job_units_per_second >= 0")
    until(prometheus, "stripedjob_job_done_total == 5")
    variables = {"$namespace": ".*", "$stripedjob": "listings"}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in variables.items():
                query = query.replace(name, value)
            found = until(prometheus, query)
            labels = found[0]["metric"]
            assert "operator" in query or (labels["namespace"], labels["stripedjob"]) == KEY
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            ask(prometheus, rule["expr"])


def test_whatever_an_alert_is_about_is_on_the_dashboard() -> None:
    alerts, dashboard = (set(re.findall(r"stripedjob_job_\w+", path.read_text())) for path in (ALERTS, DASHBOARD))
    assert alerts <= dashboard


def test_the_alerts_say_what_they_should(tmp_path: Path) -> None:
    text = (ROOT / "tests" / "integration" / "alerts_test.yaml").read_text()
    (tmp_path / "test.yaml").write_text(text.replace("{{rules}}", str(ALERTS)))
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(tmp_path / "test.yaml")]):
        done = subprocess.run([program("promtool"), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_open_breaker_is_a_number(prometheus: str, fresh_database: str) -> None:
    until(prometheus, 'stripedjob_job_breaker_open{namespace="shop", stripedjob="listings"} == 0')
    with OwnerPool.open(fresh_database) as pool:
        pool.conn.execute(
            "update striped.job set alike = 20, alike_kind = 'HTTP 503', openings = 1, opened_at = clock_timestamp(),"
            " open_until = clock_timestamp()"
        )
    until(prometheus, "stripedjob_job_breaker_open == 1")
