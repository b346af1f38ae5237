"""The commands that list units and act on what waits and runs, as a user meets them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from tests.support.runs import Job, stripedjob

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "r\n'\"\\ \x1b[31m@7"


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    made = Job(tmp_path / "job", fresh_database, fresh_valkey)
    lines = [json.dumps({"resource": name, "payload": {"n": n}}) for name in ("a", EVIL) for n in range(3)]
    made.do("enqueue", "--from", "-", stdin="\n".join(lines))
    return made


def refused(job: Job, command: str, *args: str) -> tuple[int, str]:
    done = stripedjob(command, job.file, *args, *job.where)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def listed(job: Job, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.do("list", "--json", *args))
    return found


def test_units_are_listed_in_pages(job: Job) -> None:
    first = listed(job, "--limit", "4")
    assert [one["resource"] for one in first["units"]] == ["a", "a", "a", EVIL]
    assert not any("payload" in one for one in first["units"])
    second = listed(job, "--limit", "4", "--after", first["next"], "--payload")
    assert [json.loads(one["payload"]) for one in second["units"]] == [{"n": 1}, {"n": 2}]
    assert second["next"] is None
    assert listed(job, "--older-than", "1h")["units"] == []
    assert len(listed(job, "--older-than", "0s", "--state", "ready", "--resource", EVIL)["units"]) == 3
    whole = listed(job)["units"]
    (next_one,) = listed(job, "--state", "ready", "--limit", "1", "--after", f"{whole[0]['id']}@a")["units"]
    assert next_one["id"] == whole[1]["id"]


def test_a_list_for_a_person_forges_no_line(job: Job) -> None:
    lines = job.do("list", "--payload", "--limit", "5").splitlines()
    assert lines[0].split() == ["ID", "STATE", "RESOURCE", "ATTEMPTS", "AGE", "DUE", "REASON"]
    assert len(lines) == 1 + 2 * 5
    assert all(line.isprintable() for line in lines)
    assert lines[2] == '    {"n": 0}'


def test_a_list_says_when_units_are_due_and_that_there_are_none(job: Job) -> None:
    later = {"resource": "later", "payload": {}, "due_at": "2099-01-31T08:00:00.123456Z"}
    job.do("enqueue", "--from", "-", stdin=json.dumps(later))
    header, line = job.do("list", "--resource", "later").splitlines()
    assert line[header.index("DUE") :].split()[0].startswith("2099-01-31T")
    assert "." not in line
    assert refused(job, "list", "--resource", "nobody") == (0, "no such unit\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--older-than", "1 week"], "is no length of time such as 90s, 15m, 1h or 7d"),
        (["--older-than", "9999999999d"], "is no length of time"),
        (["--after", "a"], "is no place such as 4711@listing-7"),
        (["--state", "lost"], "'lost' is not one of"),
        (["--limit", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_option_of_list_is_named(job: Job, options: list[str], words: str) -> None:
    code, said = refused(job, "list", *options)
    assert (code, words in said) == (2, True), said


def test_what_waits_is_cancelled_and_what_is_not_there_is_named(job: Job) -> None:
    first, second, *_ = (one["id"] for one in listed(job)["units"])
    why = "wrong\nprice"
    said = job.do("cancel", "--id", str(first), "--who", "ann", "--why", why, "--yes")
    assert said == "1 unit cancelled\n"
    code, said = refused(
        job, "cancel", "--id", str(first), "--id", "4711", "--id", str(second), "--yes", "--who", "bob"
    )
    assert code == 1
    assert said.splitlines() == [
        "1 unit cancelled",
        f"unit {first} is not cancelled: it was dead already",
        "unit 4711 is not cancelled: it is not there: it is done already, or never was",
    ]
    assert [one["reason"] for one in listed(job, "--state", "dead")["units"]] == [
        f"cancelled by ann: {why}",
        "cancelled by bob",
    ]
    assert json.loads(job.do("cancel", "--resource", EVIL, "--yes", "--json")) == {
        "cancelled": 3,
        "asked": 0,
        "not_cancelled": {},
    }
    assert job.do("cancel", "--all", "--yes") == "1 unit cancelled\n"
    assert job.do("retry", "--id", str(first)) == "1 dead unit is ready again\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--yes"], "Say which: --id, --resource, or --all."),
        (["--yes", "--all", "--id", "1"], "Say which"),
        (["--all"], "Nobody is there to ask: say --yes."),
        (["--all", "--yes", "--why", "x" * 1001], "at most 1000 characters"),
    ],
)
def test_a_cancellation_says_what_it_is_for(job: Job, options: list[str], words: str) -> None:
    code, said = refused(job, "cancel", *options)
    assert (code, words in said) == (2, True), said
    assert len(listed(job, "--state", "ready")["units"]) == 6


def test_a_job_and_a_resource_are_paused_and_go_on(job: Job) -> None:
    assert job.do("pause", "--who", "ann", "--why", "a flood") == "the job is paused\n"
    assert job.do("pause") == "the job was paused already\n"
    status = json.loads(job.do("status", "--json"))
    assert (status["paused_by"], status["paused_why"], status["schedule_limit"]) == ("ann", "a flood", 0)
    assert "paused     by ann at" in job.do("status")
    assert "the job is paused by ann" in job.do("explain", "a")
    job.do("migrate")
    assert json.loads(job.do("status", "--json"))["paused_by"] == "ann"
    assert json.loads(job.do("resume", "--json")) == {"resource": None, "changed": True}
    assert job.do("resume") == "the job was not paused\n"
    assert job.do("pause", "--resource", EVIL, "--who", "bob").endswith(" is paused\n")
    assert "paused by bob" in job.do("explain", EVIL)
    assert {(one["state"], one["is_paused"]) for one in listed(job, "--resource", EVIL)["units"]} == {("waiting", True)}
    assert job.do("resume", "--resource", EVIL).endswith(" goes on\n")
    assert refused(job, "pause", "--resource", "")[0] == 2


OPEN = """
update striped.job set breaker_failures = 20, alike = 20, alike_kind = %s, openings = 1,
    opened_at = clock_timestamp(), open_until = clock_timestamp() + make_interval(secs => %s)"""


def test_a_breaker_is_shown_and_closed_by_a_person(job: Job) -> None:
    job.do("status")
    job.sql(OPEN, [EVIL, 60])
    after = f"after 20 failures alike: {EVIL.encode('unicode_escape').decode()}"
    (line,) = (line for line in job.do("status").splitlines() if line.startswith("breaker "))
    assert line.startswith("breaker    open until ")
    assert line.endswith(f" UTC {after}; then one unit is tried".replace("\\\\", "\\")), line
    status = json.loads(job.do("status", "--json"))
    assert (status["breaker_failures"], status["breaker_kind"]) == (20, EVIL)
    assert 0 < status["breaker_seconds"] <= 60
    assert "the job has its circuit breaker open until" in job.do("explain", "a")
    job.sql(OPEN, ["HTTP 503", 0])
    assert "breaker    half open after 20 failures alike: HTTP 503; one unit is tried next" in job.do("status")
    assert json.loads(job.do("resume", "--json")) == {"resource": None, "changed": True}
    assert "breaker" not in job.do("status")
    assert job.do("resume") == "the job was not paused\n"


def test_retries_go_on_now(job: Job) -> None:
    job.sql(
        "update striped.unit set state = 'delayed', reason = 'no', due_at = now() + interval '1 h' where resource = 'a'"
    )
    assert job.do("retry", "--now") == "3 delayed units and 0 waiting resources go on now\n"
    assert json.loads(job.do("retry", "--now", "--json")) == {"units": 0, "resources": 0}


def test_status_says_what_is_in_the_way(job: Job) -> None:
    job.sql("update striped.unit set state = 'dead', reason = 'no luck', finished_at = now() where resource = 'a'")
    job.do("pause", "--resource", "b", "--who", "ann", "--why", "closed")
    lines = job.do("status").splitlines()
    assert "dead       3 units: no luck" in lines
    assert "waiting    b is paused by ann: closed" in lines
    assert any(line.startswith("oldest     a unit has waited for a worker for 0:") for line in lines)
    assert json.loads(job.do("status", "--json"))["outlook"]["dead"]["reasons"][0]["units"] == 3


def test_status_says_how_long_units_took_lately(job: Job) -> None:
    assert "ran " not in job.do("status")
    assert json.loads(job.do("status", "--json"))["times"]["tries"] == 0
    job.sql("select striped.note_times(1, '{0,0,0,0,60}', 1.2, '{3,0,0,0,0,0,0,0,0,57}', 40)")
    lines = job.do("status").splitlines()
    assert any(line.startswith("tries      ") and line.endswith("/min in the last 5 minutes") for line in lines)
    assert "waited     p50 18 ms, p95 24 ms, p99 25 ms" in lines
    assert "ran        p50 737 ms, p95 974 ms, p99 995 ms" in lines
    found = json.loads(job.do("status", "--json"))
    assert found["times"]["tries"] == 60
    assert found["times"]["run"]["p50"] == pytest.approx(0.7368, rel=0.01)
    assert found["outlook"]["oldest_seconds"] >= 0


def test_explain_says_who_has_a_foreign_lock(job: Job, fresh_valkey: str) -> None:
    job.sql("select striped.upkeep(1)")
    job.sql("update striped.stripe set state = 'waiting', next_at = now() + interval '1 h' where resource = 'a'")
    assert "nobody has the lock any more" in job.do("explain", "a")
    name = job.sql("select namespace || '/' || job_type from striped.job")[0][0]
    with redis.Redis.from_url(fresh_valkey) as client:
        client.set(f"{{stripedjob:{name}}}:a", "the web shop", px=60_000)
        said = job.do("explain", "a")
        assert "its lock is held by 'the web shop', somebody outside of this pool, for " in said
        facts = json.loads(job.do("explain", "a", "--json"))
        assert 0 < facts["lock"]["seconds_left"] <= 60
    assert "cannot say who has it" in _explained_without_lock(job)


def _explained_without_lock(job: Job) -> str:
    where = [*job.where[: job.where.index("--redis")], "--redis", "redis://127.0.0.1:1"]
    began = time.monotonic()
    done = stripedjob("explain", job.file, "a", *where)
    assert time.monotonic() - began < 30
    return done.stdout


def keep_history(job: Job) -> None:
    job.sql("update striped.job set history_seconds = 3600")
    job.do("enqueue", "--from", "-", stdin="\n".join(json.dumps({"resource": EVIL}) for _ in range(3)))


def test_what_happened_is_told_the_newest_first_and_in_pages(job: Job) -> None:
    keep_history(job)
    job.do("pause", "--resource", EVIL, "--who", "ann", "--why", "closed\nshop")
    job.do("resume", "--resource", EVIL, "--who", "bob")
    found = json.loads(job.do("history", "--resource", EVIL, "--json"))
    assert [one["event"] for one in found["events"]] == ["resumed", "paused"] + ["enqueued"] * 3
    assert (found["next"], found["kept_seconds"]) == (None, 3600)
    first = json.loads(job.do("history", "--resource", EVIL, "--json", "--limit", "2"))
    rest = json.loads(job.do("history", "--resource", EVIL, "--json", "--before", str(first["next"])))
    assert first["events"] + rest["events"] == found["events"]
    unit = found["events"][-1]["unit"]
    lines = job.do("history", "--unit", str(unit)).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "no longer paused, by bob",
        r"paused by ann: closed\nshop",
        "put in",
    ]
    assert all(line.isprintable() for line in lines)


def test_what_happened_to_the_job_as_a_whole_is_told_of_it_and_of_its_resources(job: Job) -> None:
    keep_history(job)
    job.do("pause", "--who", "ann", "--why", "closed\nshop")
    job.do("resume", "--who", "bob")
    lines = job.do("history").splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "the job was resumed by bob",
        r"the job was paused by ann: closed\nshop",
    ]
    whole = json.loads(job.do("history", "--json"))["events"]
    assert json.loads(job.do("history", "--resource", EVIL, "--json"))["events"][:2] == whole


@pytest.mark.parametrize("state", ["held", "dead"])
def test_who_made_ready_again_or_removed_is_told(job: Job, state: str) -> None:
    keep_history(job)
    job.sql(
        "update striped.unit set state = %s, reason = 'no', finished_at = case when %s then now() end"
        " where state = 'ready'",
        [state, state == "dead"],
    )
    first, *_ = listed(job, "--state", state)["units"]
    job.do("retry" if state == "dead" else "release", "--id", str(first["id"]), "--who", "ann")
    job.do("purge", f"--{state}", "--yes", "--who", "bob")
    found = json.loads(job.do("history", "--resource", "a", "--json"))["events"]
    assert {(one["event"], one["who"]) for one in found} == {
        ("retried" if state == "dead" else "released", "ann"),
        ("purged", "bob"),
    }


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--resource", "a", "--unit", "1"], 2, "Say of what: --resource or --unit, not both."),
        ([], 1, "keeps no history: set retention.historySeconds in"),
        (["--unit", "0"], 2, "0 is not in the range"),
        (["--unit", str(2**63)], 2, "is not in the range"),
        (["--resource", "a"], 1, "keeps no history: set retention.historySeconds in"),
    ],
)
def test_a_history_that_is_not_there_says_so(job: Job, options: list[str], code: int, words: str) -> None:
    found, said = refused(job, "history", *options)
    assert (found, words in said) == (code, True), said
