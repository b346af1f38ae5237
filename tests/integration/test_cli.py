"""The command line as a user meets it: each command once as it should be, and each mistake with its code and words."""

from __future__ import annotations

import csv
import json
import os
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from tests.support.engines import end_engines
from tests.support.runs import Job, stripedjob

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engines import RestartablePostgres


GIVES_UP_SECONDS_MAX = 20.0  # connect_timeout is 5 s; the rest is for a machine that has other things to do


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    return Job(tmp_path / "job", fresh_database, fresh_valkey)


def refused(job: Job, command: str, *args: str, stdin: str = "") -> tuple[int, str]:
    done = stripedjob(command, job.file, *args, *job.where, stdin=stdin)
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.acceptance("A05")
def test_the_same_seed_gives_the_same_work(job: Job) -> None:
    query = "select resource, payload::text from striped.unit order by id"
    job.do("create-work", "--units", "500", "--resources", "50", "--seed", "7")
    first = job.sql(query)
    job.sql("truncate striped.unit")
    job.do("create-work", "--units", "500", "--resources", "50", "--seed", "7")
    assert job.sql(query) == first
    assert len({resource for resource, _ in first}) == 50


@pytest.mark.acceptance("A04")
def test_a_file_of_units_on_a_fresh_database(job: Job, tmp_path: Path) -> None:
    (tmp_path / "units.csv").write_text(
        'resource,payload,importance,due_at,dedup_id\na,"{""n"": 1}",5,,x\na,2,,2999-01-01T00:00:00+09:00,\na,3,,,x\n'
    )
    assert job.do("enqueue", "--from", str(tmp_path / "units.csv")).startswith("2 units enqueued")
    assert job.sql("select resource, payload::text, importance, state::text from striped.unit order by id") == [
        ("a", '{"n": 1}', 5, "ready"),
        ("a", "2", 0, "delayed"),
    ]


BAD = [
    ("not json", "line 2: the line is not JSON"),
    ('{"payload": 1}', "line 2: resource is missing"),
    (json.dumps({"resource": "r" * 10_000}), "line 2: resource 'rrr"),
    ('{"resource": "a\\u0000"}', "line 2: resource 'a\\x00' has a NUL character"),
    ('{"resource": "a", "payload": NaN}', "line 2: the line is not JSON: NaN is not in JSON"),
    ('{"resource": "a", "due_at": "tomorrow"}', "line 2: due_at 'tomorrow'"),
    ('{"resource": "a", "due_at": "2030-01-01"}', "has no time zone"),
    ('{"resource": "a", "price": 1}', "line 2: there is no key 'price'"),
    ('{"resource": "a", "importance": "high"}', "line 2: importance 'high' is not a whole number"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_is_named_and_nothing_is_loaded(job: Job, line: str, message: str) -> None:
    job.do("migrate")
    code, words = refused(job, "enqueue", "--from", "-", stdin=f'{{"resource": "good"}}\n{line}\n')
    assert code == os.EX_DATAERR
    assert message in words
    assert job.sql("select count(*) from striped.unit") == [(0,)]


def test_a_bad_line_far_down_takes_back_what_came_before(job: Job) -> None:
    lines = '{"resource": "good"}\n' * 30_000
    code, words = refused(job, "enqueue", "--from", "-", stdin=f"{lines}not json\n{lines}not json\n")
    assert (code, "nothing was loaded: 2 of 60,002 lines cannot be used" in words) == (os.EX_DATAERR, True)
    assert "line 60002: the line is not JSON" in words
    assert job.sql("select count(*) from striped.unit") == [(0,)]


def test_bad_lines_can_be_left_out(job: Job) -> None:
    lines = "\n".join(['{"resource": "odd \\u20ac\\n\\t\'\\" name"}', *(line for line, _ in BAD)])
    done = stripedjob("enqueue", job.file, *job.where, "--from", "-", "--skip-bad", stdin=lines)
    assert (done.returncode, f"left out: {len(BAD)} bad lines" in done.stderr) == (0, True)
    assert job.sql("select resource from striped.unit") == [("odd €\n\t'\" name",)]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_payloads_go_in_as_they_are_written_and_are_of_any_length(job: Job, tmp_path: Path, suffix: str) -> None:
    texts = ["12345678901234567890.12", "1e400", '{"b": 1, "a": 1,"b":2}', f'"{"x" * 2_000_000}"']
    file = tmp_path / f"units.{suffix}"
    with file.open("w", newline="") as out:
        if suffix == "csv":
            csv.writer(out).writerows([["resource", "payload"], *(["a", text] for text in texts), ["bad", "NaN"]])
        else:
            out.writelines(f'{{"resource": "a", "payload": {text}}}\n' for text in [*texts, "NaN"])
    assert "NaN" in refused(job, "enqueue", "--from", str(file))[1]
    assert job.do("enqueue", "--from", str(file), "--skip-bad").startswith("4 units enqueued")
    assert [row[0] for row in job.sql("select payload::text from striped.unit order by id")] == texts


@pytest.mark.acceptance("A43")
@pytest.mark.acceptance("A49")
def test_held_and_dead_units_are_seen_and_released(job: Job) -> None:
    job.do("enqueue", "--from", "-", stdin='{"resource": "a"}\n{"resource": "b"}\n{"resource": "c"}')
    job.sql("update striped.unit set state = 'held', reason = 'ask a person' where resource = 'a'")
    job.sql("update striped.unit set state = 'dead', reason = 'never', finished_at = now() where resource <> 'a'")
    job.sql("update striped.job set held = 1, dead = 2")  # as workers count it
    status = json.loads(job.do("status", "--json"))
    assert (status["held"], status["dead"]) == (1, 2)
    assert "Unit 1 is held: ask a person" in job.do("explain", "a")
    assert json.loads(job.do("explain", "b", "--json"))["dead"] == 1
    assert job.do("release") == "1 held unit is ready again\n"
    assert job.do("retry", "--resource", "b") == "1 dead unit is ready again\n"
    assert job.do("purge", "--dead", "--yes") == "1 dead unit removed\n"
    assert "a has new units; no worker is there to claim it" in job.do("explain", "a")
    assert "or it never had any under exactly this name" in job.do("explain", "nobody")


def test_what_waits_for_ever_and_what_a_vanished_worker_holds_are_explained(job: Job) -> None:
    for resource, due_at in (("never", "infinity"), ("late", "9999-12-31 23:59-12"), ("bad\x1b]0;x", "infinity")):
        job.do("migrate")
        job.sql("select striped.enqueue('seed', %s, due_at => %s)", [resource, due_at])
    assert "are due never" in job.do("explain", "never")
    assert "before 10000-01-01T" in job.do("explain", "late")
    assert job.do("explain", "bad\x1b]0;x").startswith(r"bad\x1b]0;x has nothing to do")
    job.sql("select striped.enqueue('seed', 'lost')")
    job.sql(
        "insert into striped.stripe (job_id, resource, state, rank, worker_id, fence, leased_at)"
        " select id, 'lost', 'leased', now(), 77, 1, now() from striped.job"
    )
    assert "to a worker that is gone" in job.do("explain", "lost")
    assert json.loads(job.do("explain", "lost", "--json"))["worker"] is None


@pytest.mark.acceptance("A02")
@pytest.mark.acceptance("A03")
@pytest.mark.acceptance("A11")
def test_a_pools_life(job: Job) -> None:
    assert "migrated to version" in job.do("migrate")
    assert "up to date" in job.do("migrate")
    assert job.do("flush-locks") == "0 locks removed\n"
    assert "dropped" in job.do("teardown", "--yes")
    assert "was not there" in job.do("teardown", "--yes")
    code, words = refused(job, "status")
    assert (code, "stripedjob migrate" in words) == (os.EX_CONFIG, True)


@pytest.mark.acceptance("A01")
def test_embedded_engines_keep_the_pool_between_commands(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "apiVersion: striped.dev/v1alpha1\nkind: StripedJob\nmetadata: {name: a}\nspec: {handler: {exec: ['true']}}\n"
    )
    try:
        servers, work = set(), ["create-work", "--units", "20", "--resources", "5"]
        for args in (work, ["run", "--until-empty"], ["status", "--json"]):
            done = stripedjob(args[0], tmp_path / "job.yaml", *args[1:], "--data", tmp_path / "data")
            assert done.returncode == 0, done.stderr
            servers.add((tmp_path / "data/postgres/data/postmaster.pid").read_text().split()[0])
        assert json.loads(done.stdout)["total_done"] == 20
        assert len(servers) == 1  # each command finds the engine running
    finally:
        end_engines(tmp_path)


def test_validate_names_every_mistake(job: Job) -> None:
    assert stripedjob("validate", job.file).returncode == 0
    job.write(scheduleLimit=-1, strategi="x")
    done = stripedjob("validate", job.file)
    assert done.returncode == os.EX_CONFIG
    assert "spec.scheduleLimit: -1 is out of bounds" in done.stderr
    assert "did you mean strategy?" in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("postgresql://127.0.0.1:1/x", os.EX_UNAVAILABLE, "Postgres cannot be reached"),
        ("nonsense", os.EX_CONFIG, "the Postgres URL cannot be used"),
    ],
)
@pytest.mark.acceptance("A02")
def test_a_url_that_cannot_be_used(job: Job, url: str, code: int, message: str) -> None:
    job.url = url
    assert refused(job, "status")[0] == code
    assert message in refused(job, "run", "--until-empty")[1]


@pytest.mark.acceptance("A02")
@pytest.mark.parametrize("command", ["migrate", "run"])
def test_a_postgres_that_never_answers_is_given_up(job: Job, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        job.url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        code, words = refused(job, command)
    assert (code, "Postgres cannot be reached" in words) == (os.EX_UNAVAILABLE, True), words
    assert time.monotonic() - began < GIVES_UP_SECONDS_MAX


def test_who_may_not(job: Job, restartable_postgres: RestartablePostgres) -> None:
    missing = urlunsplit(urlsplit(job.url)._replace(path="/no_such_database"))
    server = Job(job.folder, restartable_postgres.url, job.lock_url)
    server.sql("create role alice login password 'right'")
    server.do("migrate")
    alice = restartable_postgres.url.replace("postgres@", "alice:wrong@", 1)
    with psycopg.connect(restartable_postgres.url, autocommit=True) as conn:
        hba = conn.execute("show hba_file").fetchone()
        assert hba is not None
        with open(hba[0], "r+", encoding="utf-8") as file:  # noqa: PTH123
            rest = file.read()
            file.seek(0)
            file.write("local all alice scram-sha-256\n" + rest)
        conn.execute("select pg_reload_conf()")
    for url, message in (
        (missing, "does not exist"),
        (alice, "password authentication failed"),
        (alice.replace("wrong", "right"), "permission denied"),
    ):
        server.url = url
        code, words = refused(server, "status")
        assert (code, message in words, "wrong" in words) == (os.EX_NOPERM, True, False), words


def test_a_command_that_does_not_exist(job: Job) -> None:
    done = stripedjob("statsu", job.file)
    assert (done.returncode, "Did you mean 'status'?" in done.stderr) == (2, True)
