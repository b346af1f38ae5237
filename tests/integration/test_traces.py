"""A trace goes from what puts a unit in to its handler and back, where a collector is named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from opentelemetry.sdk.trace import TracerProvider
from tests.support.collector import Collector, collector
from tests.support.runs import stripedjob

import stripedjob as package
from stripedjob import NewUnit
from stripedjob.runtime import traces
from stripedjob.tracing import current_traceparent
from stripedjob.unit import Unit, as_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.trace import Span as OwnSpan

TRACER = TracerProvider().get_tracer("shop")
HANDLER = """
import stripedjob
from opentelemetry import trace

def work(unit):
    with trace.get_tracer("shop").start_as_current_span("inside"):
        if unit.payload == "fails":
            raise ValueError("no such price")

async def work_async(unit):
    work(unit)

def work_all(units):
    pass

def work_in(unit, conn):
    work(unit)
"""
WAY = ["wait", "lease", "lock", "process", "settle"]


@pytest.fixture
def seen() -> Iterator[Collector]:
    with collector() as made:
        yield made


def job(folder: Path, **handler: Any) -> Path:
    (folder / "shop.py").write_text(HANDLER)
    file = folder / "job.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "striped.dev/v1alpha1",
                "kind": "StripedJob",
                "metadata": {"name": "prices"},
                "spec": {
                    "scheduleLimit": 1,
                    "handler": handler,
                    "lock": {"backend": "Postgres"},
                    "retry": {"maxAttempts": 1},
                },
            }
        )
    )
    return file


def run(file: Path, url: str, seen: Collector) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": seen.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    done = stripedjob("run", file, "--until-empty", "--postgres", url, env=env)
    assert done.returncode in {0, 1}, done.stderr + done.stdout


def ids(span: OwnSpan) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def of_unit(seen: Collector, unit: int) -> list[Any]:
    found = [span for span in seen.spans if span.attributes.get("messaging.message.id") == str(unit)]
    return sorted(found, key=lambda span: WAY.index(span.name.split()[0]))


def test_a_unit_has_its_whole_way_in_the_trace_of_what_put_it_in(
    fresh_database: str, tmp_path: Path, seen: Collector
) -> None:
    file = job(tmp_path, python="shop:work")
    assert stripedjob("migrate", file, "--postgres", fresh_database).returncode == 0
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        with TRACER.start_as_current_span("order") as order:
            one = package.enqueue(conn, "prices", NewUnit(resource="chair", payload=1))
            package.enqueue_many(conn, "prices", [NewUnit(resource="table", payload="fails")])
            sql = "select striped.enqueue('prices', 'lamp', '2', traceparent => %s)"
            three = conn.execute(sql, [current_traceparent()]).fetchone()
        plain = package.enqueue(conn, "prices", NewUnit(resource="sofa", payload=3))
        (two,) = conn.execute("select id from striped.unit where resource = 'table'").fetchone() or ()
    assert three is not None
    run(file, fresh_database, seen)
    for unit, resource in ((one, "chair"), (two, "table"), (three[0], "lamp")):
        way = of_unit(seen, unit)
        assert [span.name for span in way] == [f"{word} default/prices" for word in WAY]
        assert {(span.trace, span.parent) for span in way} == {ids(order)}
        assert {span.service for span in way} == {"stripedjob"}
        assert {span.attributes["stripedjob.resource"] for span in way} == {resource}
        wait, lease, lock, process, settle = way
        assert wait.began < wait.ended <= lease.ended <= lock.ended <= process.ended <= settle.ended
        (inside,) = [span for span in seen.named("inside") if span.parent == process.id]
        assert inside.trace == ids(order)[0]
    (process,) = [span for span in of_unit(seen, two) if span.name.startswith("process")]
    assert (process.failed, process.exceptions) == (True, ("ValueError: no such price",))
    (alone,) = of_unit(seen, plain)
    assert (alone.name, alone.parent, alone.failed) == ("process default/prices", "", False)
    assert alone.trace != ids(order)[0]


@pytest.mark.parametrize(
    "handler",
    [
        {"python": "shop:work_async"},
        {"python": "shop:work_in", "transaction": True},
        {"exec": ["sh", "-c", "grep -q traceparent"]},
    ],
    ids=["async", "transaction", "exec"],
)
def test_each_kind_of_handler_is_called_in_a_span(
    fresh_database: str, tmp_path: Path, seen: Collector, handler: dict[str, Any]
) -> None:
    file = job(tmp_path, **handler)
    assert stripedjob("migrate", file, "--postgres", fresh_database).returncode == 0
    with psycopg.connect(fresh_database, autocommit=True) as conn, TRACER.start_as_current_span("order") as order:
        unit = package.enqueue(conn, "prices", NewUnit(resource="chair", payload=1))
    run(file, fresh_database, seen)
    assert [span.name.split()[0] for span in of_unit(seen, unit)] == WAY
    assert {(span.trace, span.parent) for span in of_unit(seen, unit)} == {ids(order)}
    assert not any(span.failed for span in seen.spans)


def test_the_call_for_a_resource_names_all_that_put_its_units_in(
    fresh_database: str, tmp_path: Path, seen: Collector
) -> None:
    file = job(tmp_path, python="shop:work_all", per="Resource")
    assert stripedjob("migrate", file, "--postgres", fresh_database).returncode == 0
    orders = []
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        for _ in range(3):
            with TRACER.start_as_current_span("order") as order:
                package.enqueue(conn, "prices", NewUnit(resource="chair"))
            orders.append(ids(order))
    run(file, fresh_database, seen)
    first, rest = sorted(seen.named("process"), key=lambda span: span.began)  # the first claim brings one unit
    assert ((first.trace, first.parent), first.links) == (orders[0], ())
    assert (rest.trace, rest.parent) == orders[1]
    assert rest.links == (orders[2][1],)
    assert rest.attributes["messaging.batch.message_count"] == 2


@pytest.mark.parametrize(
    "given", ["", "no trace", "00-0-0-00", "00-" + "A" * 32 + "-" + "b" * 16 + "-01", "x" * 10_000]
)
def test_what_is_no_trace_context_keeps_no_unit_out(fresh_database: str, tmp_path: Path, given: str) -> None:
    file = job(tmp_path, python="shop:work")
    assert stripedjob("migrate", file, "--postgres", fresh_database).returncode == 0
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        conn.execute("select striped.enqueue('prices', 'lamp', '2', traceparent => %s)", [given])
        conn.execute(
            "select striped.enqueue_rows('default', 'prices', '{a,b}', null, null, null, null, %s)", [[given, None]]
        )
        assert conn.execute("select count(*), count(traceparent) from striped.unit").fetchone() == (3, 0)


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_asked_for_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *, asked: bool
) -> None:
    for name in (*traces.ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert traces.is_asked_for() == asked


def test_without_the_extra_nothing_is_traced_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert traces.open_traces("default/prices") is None
    assert "OpenTelemetry is not installed" in caplog.text


def test_commands_and_endpoints_get_the_context_with_the_unit() -> None:
    traced = Unit(7, "chair", 1, 1, "1", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert json.loads(as_json(traced))["traceparent"] == traced.traceparent
    assert "traceparent" not in json.loads(as_json(Unit(7, "chair", 1, 1, "1")))
    assert current_traceparent() is None


ENDING = """
import time
from stripedjob.runtime.traces import open_traces
from stripedjob.unit import Unit
made = open_traces("default/prices")
with made.around(Unit(1, "r", 1, 1, "null")):
    pass
print(time.time())
"""


def test_a_collector_that_does_not_answer_keeps_no_process_from_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        done = subprocess.run(
            [sys.executable, "-c", ENDING], env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=True
        )
        seconds = time.time() - float(done.stdout)
    assert traces.CLOSE_SECONDS <= seconds < 8.0  # the exporter alone: 10, and the SDK 30
