"""What a command looks at before anything is started for it: a mistake costs no engine, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.support.engines import end_engines
from tests.support.runs import Job, stripedjob

if TYPE_CHECKING:
    from pathlib import Path

HANDLERS = """
def apply(unit): pass
def nothing(): pass
def pair(unit, connection): pass
"""
MODULES = {
    "good": HANDLERS,
    "syntax": "def apply(unit) pass",
    "broken": "import nothere_lib\ndef apply(unit): pass",
    "leaving": "import sys; sys.exit('usage')",
    "loud": "print('imported')\n" + HANDLERS,
}
HANDLER_MISTAKES = [
    ({"python": "good:aply"}, "module good has no aply; did you mean apply?"),
    ({"python": "nowhere:apply"}, "there is no module nowhere; it belongs beside FILE"),
    ({"python": "syntax:apply"}, "SyntaxError"),
    ({"python": "broken:apply"}, "No module named 'nothere_lib' (broken.py:1"),
    ({"python": "leaving:apply"}, "SystemExit: usage"),
    ({"python": "good:nothing"}, "it is called with the unit, but is nothing(): too many positional arguments"),
    ({"python": "good:pair"}, "missing a required argument: 'connection'"),
    ({"python": "good:apply", "transaction": True}, "with the unit and the connection, since transaction is true"),
    ({"exec": ["no-such-command"]}, "there is no executable 'no-such-command'"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def job_file(folder: Path, **spec: object) -> Path:
    spec = {"handler": {"python": "good:apply"}, **spec}
    job = {"apiVersion": "striped.dev/v1alpha1", "kind": "StripedJob", "metadata": {"name": "a"}, "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def refused(folder: Path, command: str, *args: str | Path, stdin: str = "") -> tuple[int, str]:
    """Run a command that must fail, by a message of one mistake, and have made nothing."""
    before = sorted(folder.iterdir())
    done = stripedjob(command, folder / "job.yaml", *args, stdin=stdin, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before
    return done.returncode, done.stderr


@pytest.mark.parametrize(("handler", "words"), HANDLER_MISTAKES)
def test_a_handler_that_cannot_work_is_told_of_before_engines_start(
    folder: Path, handler: dict[str, object], words: str
) -> None:
    job_file(folder, handler=handler)
    code, said = refused(folder, "run", "--until-empty")
    assert code == os.EX_CONFIG
    assert said.count(words) == 1, said


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.scheduleLimit is 1"),
        ({"scheduleLimit": 2}, "spec.scheduleLimit is 2"),
        ({"scheduleLimit": 9, "parallel": False}, "spec.parallel is false"),
        ({"scheduleLimit": 9, "suspend": True}, "spec.suspend is true"),
    ],
    ids=str,
)
def test_more_workers_than_may_be_at_work_are_refused_with_what_limits_them(
    folder: Path, spec: dict[str, object], words: str
) -> None:
    job_file(folder, **spec)
    code, said = refused(folder, "run", "--workers", "3")
    assert (code, said.count(words)) == (2, 1), said


def test_validate_looks_at_handlers_that_are_here(folder: Path) -> None:
    file = job_file(folder)
    assert "is valid, and its handler is found" in stripedjob("validate", file).stdout
    job_file(folder, handler={"python": "loud:apply"})
    assert stripedjob("validate", file).stdout.count("\n") == 1
    job_file(folder, handler={"python": "elsewhere.module:apply"})
    done = stripedjob("validate", file)
    assert (done.returncode, "was not looked at: there is no module elsewhere" in done.stdout) == (0, True)
    job_file(folder, handler={"exec": ["no-such-command"]})
    assert "its command is not on this machine" in stripedjob("validate", file).stdout
    job_file(folder, handler={"python": "good:nothing"})
    done = stripedjob("validate", file)
    assert (done.returncode, f"{file}: handler python: good:nothing" in done.stderr) == (os.EX_CONFIG, True)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("redis://127.0.0.1:1", os.EX_UNAVAILABLE, "redis://127.0.0.1:1"),
        ("http://example.com", os.EX_CONFIG, "scheme"),
    ],
)
def test_a_lock_backend_that_cannot_be_used_ends_a_run_at_once(folder: Path, url: str, code: int, words: str) -> None:
    job_file(folder)
    found, said = refused(folder, "run", "--redis", url)
    assert (found, words in said) == (code, True), said


INPUTS = [
    ("units.csv", b"res,data\na,1\n", "line 1: the header is 'res,data'"),
    ("units.csv", b"", "there is no header"),
    ("units.csv", b"resource,payload\na,1\nb,\xe4\n", "line 3: it is not UTF-8"),
    ("units.jsonl", b'{"resource": "a"}\n{"resource": 7}\n', "line 2: resource is 7, not text"),
    ("units.txt", b"a", "say --format csv or --format jsonl"),
    ("absent.csv", None, "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "words"), INPUTS)
def test_a_file_of_units_is_looked_at_before_engines_start(
    folder: Path, name: str, content: bytes | None, words: str
) -> None:
    job_file(folder)
    if content is not None:
        (folder / name).write_bytes(content)
    code, said = refused(folder, "enqueue", "--from", folder / name)
    assert (code, words in said) == (os.EX_DATAERR, True), said


NOT_MAKING = [
    *(["status"], ["explain", "r"], ["retry"], ["release"], ["purge", "--dead", "--yes"], ["flush-locks"]),
    ["teardown", "--yes"],
]


@pytest.mark.parametrize("command", NOT_MAKING, ids=lambda command: command[0])
def test_no_command_makes_a_database_that_nobody_has_asked_for(folder: Path, command: list[str]) -> None:
    job_file(folder)
    code, said = refused(folder, *command, "--data", folder / "typo")
    assert (code, f"there is no pool in {folder / 'typo'}" in said) == (1, True), said


@pytest.mark.parametrize("command", ["status", "run"])
def test_a_folder_that_cannot_be_used_is_named(folder: Path, command: str) -> None:
    job_file(folder)
    code, said = refused(folder, command, "--data", "/proc/nope")
    assert (code, "/proc/nope" in said) == (1, True)


@pytest.mark.parametrize("url", ["localhost", "mysql://x/y", "postgresql+psycopg://x/y"])
@pytest.mark.parametrize("command", [["status"], ["run"], ["migrate"]])
def test_a_wrong_url_is_a_matter_of_configuration(folder: Path, url: str, command: list[str]) -> None:
    job_file(folder, lock={"backend": "Postgres"})
    code, said = refused(folder, *command, "--postgres", url)
    assert (code, "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in said) == (os.EX_CONFIG, True), said


@pytest.mark.parametrize("command", [["purge", "--dead"], ["teardown"]])
def test_where_nobody_can_be_asked_the_way_out_is_named(folder: Path, command: list[str]) -> None:
    job_file(folder)
    code, said = refused(folder, *command)
    assert (code, "say --yes" in said) == (2, True), said


def test_what_the_system_refuses_a_worker_is_one_line(folder: Path) -> None:
    spec, url = job_file(folder).read_text(), "postgresql://127.0.0.1:1/x"
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        for args in (["--port", port], ["--pid-file", str(folder / "no/such")]):
            done = stripedjob("worker", "--spec", spec, "--postgres", url, *args)
            (line,) = done.stderr.splitlines()
            record = json.loads(line)
            assert (done.returncode, record["exit_code"]) == (1, 1)
            assert "in use" in record["event"] or record["event"].startswith(f"{folder}/no/such: ")


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    return Job(tmp_path / "job", fresh_database, fresh_valkey)


def limit(job: Job) -> int:
    return int(job.status()["schedule_limit"])


def test_another_file_of_the_same_job_changes_nothing_unless_told_to(job: Job) -> None:
    job.write(scheduleLimit=2, handler={"python": "job_handlers:act"})
    job.do("enqueue", "--from", "-", stdin='{"resource": "a", "payload": 0}')
    job.write(scheduleLimit=7, importance=5)
    for args in (["enqueue", "--from", "-"], ["create-work", "--units", "1"]):
        done = stripedjob(args[0], job.file, *args[1:], *job.where)
        assert done.returncode == 0
        assert "scheduleLimit 7 (in the pool: 2), importance 5 (in the pool: 0)" in done.stderr
        assert limit(job) == 2
    there = "insert into striped.worker (id, job_id, name, expires_at) values (%s, 1, 'w', now() + %s * interval '1 h')"
    job.sql(there, [77, 1])
    job.sql(there, [78, -1])  # was killed
    job.sql("update striped.unit set payload = '0'")
    done = stripedjob("run", job.file, *job.where, "--workers", "1", "--until-empty")
    assert f"the job seed is now as in {job.file}: scheduleLimit 7 (in the pool: 2)" in done.stderr
    assert "1 worker of another run or a cluster works on seed already" in done.stderr
    assert (done.returncode, limit(job)) == (0, 7)
    job.do("migrate")
    assert not stripedjob("create-work", job.file, *job.where, "--units", "1").stderr


def test_a_lock_server_that_nobody_has_named_is_said(job: Job) -> None:
    job.do("migrate")
    try:
        done = stripedjob("run", job.file, "--postgres", job.url, "--until-empty", "--workers", "0")
        assert "no --redis is given: the locks are in an embedded Valkey" in done.stderr
    finally:
        end_engines(job.folder)


def test_what_a_cluster_has_set_stays(job: Job) -> None:
    job.do("migrate")
    job.sql("update striped.job set generation = 9, schedule_limit = 3")
    job.write(handler={"python": "job_handlers:act"})
    done = stripedjob("run", job.file, *job.where, "--until-empty")
    assert "keeps its settings, which are of a later generation: scheduleLimit 8 (in the pool: 3)" in done.stderr
    assert limit(job) == 3


def test_units_that_die_fail_a_run_that_is_told_so(job: Job) -> None:
    (job.folder / "dying.py").write_text("import stripedjob\ndef act(unit): raise stripedjob.Dead('no')")
    job.write(handler={"python": "dying:act"})
    units = '{"resource": "a"}\n{"resource": "b"}'
    job.do("enqueue", "--from", "-", stdin=units)
    assert stripedjob("run", job.file, *job.where, "--until-empty").returncode == 0
    assert stripedjob("run", job.file, *job.where, "--until-empty", "--fail-on-dead").returncode == 0
    job.do("enqueue", "--from", "-", stdin=units)
    done = stripedjob("run", job.file, *job.where, "--until-empty", "--fail-on-dead")
    assert (done.returncode, "2 units died" in done.stderr) == (1, True)


def test_a_missing_pool_and_one_of_another_version_are_two_things(job: Job) -> None:
    done = stripedjob("status", job.file, *job.where)
    assert f"there is no pool in schema striped of this database: `stripedjob migrate {job.file}`" in done.stderr
    assert done.returncode == os.EX_CONFIG
    job.do("migrate")
    job.sql("drop view striped.job_status cascade")
    done = stripedjob("status", job.file, *job.where)
    assert (done.returncode, "is not of this version of stripedjob" in done.stderr) == (os.EX_CONFIG, True)
