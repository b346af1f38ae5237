"""`stripedjob run` on a terminal, as a person sees it: nothing is overwritten, all is named, nothing waits mutely."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from tests.support.engines import RestartableValkey, running
from tests.support.runs import Job, stripedjob
from tests.support.terminal import Terminal

PRINTING = """
import sys
def apply(unit):
    print(unit.resource, unit.payload)
    print(f"of {unit.resource}", file=sys.stderr)
"""
UNITS = 60
COLUMNS = [80, 46]


@pytest.fixture
def job(tmp_path: Path, fresh_database: str, fresh_valkey: str) -> Job:
    job = Job(tmp_path / "job", fresh_database, fresh_valkey)
    (job.folder / "listings.py").write_text(PRINTING)
    job.write(handler={"python": "listings:apply"}, scheduleLimit=2)
    return job


def put(job: Job, units: int, **more: object) -> None:
    lines = "\n".join(json.dumps({"resource": f"r{n}", "payload": {"price": n}, **more}) for n in range(units))
    job.do("enqueue", "--from", "-", stdin=lines)


def on_terminal(job: Job, columns: int, *args: str, **env: str) -> Terminal:
    command = [sys.executable, "-m", "stripedjob", "run", str(job.file), *job.where, *args]
    return Terminal(command, columns, env)


def prints_of(lines: list[str]) -> list[str]:
    return sorted(found[1] for line in lines if (found := re.fullmatch(r"local-\d+-\d+: (.*)", line)))


EXPECTED = sorted(line for n in range(UNITS) for line in (f"r{n} {{'price': {n}}}", f"of r{n}"))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("no_color", ["", "1"])
def test_prints_scroll_above_the_table_under_their_worker_s_name(job: Job, columns: int, no_color: str) -> None:
    put(job, UNITS)
    with on_terminal(job, columns, "--until-empty", NO_COLOR=no_color) as terminal:
        assert terminal.await_end() == 0
        lines = terminal.everything()
    assert prints_of(lines) == EXPECTED
    rest = [line for line in lines if not line.startswith("local-")]
    assert rest[0].startswith(f"{UNITS} units done in "), rest
    assert "pending" not in "".join(rest)  # the table has gone with its last lines
    if no_color:
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]", terminal.raw)  # no colour, at least


def test_the_table_is_drawn_once_while_it_runs(job: Job) -> None:
    (job.folder / "listings.py").write_text(
        "import pathlib, time\ndef apply(unit):\n    print('a line of', unit.resource)\n"
        "    while not pathlib.Path(__file__).with_name('go').exists(): time.sleep(0.01)\n"
    )
    put(job, 6)
    with on_terminal(job, 46, "--until-empty") as terminal:
        terminal.await_line("workers  2 (2 at work, at most 2)")
        terminal.await_("two prints", lambda: len(prints_of(terminal.everything())) == 2)
        shown = terminal.everything()
        for name in ("workers", "pending", "done", "rate", "ETA"):
            assert sum(line.split()[0] == name for line in shown) == 1, shown
        (job.folder / "go").touch()
        assert terminal.await_end() == 0
        assert len(prints_of(terminal.everything())) == 6


def test_piped_it_is_plain_lines_that_do_not_repeat(job: Job) -> None:
    put(job, UNITS)
    done = stripedjob("run", job.file, *job.where, "--until-empty")
    assert (done.returncode, "\x1b" in done.stdout + done.stderr) == (0, False)
    assert prints_of(done.stderr.splitlines()) == EXPECTED
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(f"{UNITS} units done in ")
    assert len(set(lines)) == len(lines) < 8


def test_json_is_json_throughout(job: Job) -> None:
    put(job, UNITS)
    done = stripedjob("run", job.file, *job.where, "--until-empty", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[-1]["event"] == "summary"
    assert records[-1]["done"] == UNITS
    assert 0 < records[-1]["working_seconds"] < records[-1]["seconds"]
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert sum(one["event"] == "output" for one in said) == 2 * UNITS
    assert all(one["worker"].startswith("local-") for one in said if "worker" in one)


@pytest.mark.parametrize("columns", COLUMNS)
def test_ctrl_c_says_what_it_waits_for_and_a_second_one_ends_at_once(job: Job, columns: int) -> None:
    job.write(handler={"python": "job_handlers:act"}, drainSeconds=600)
    put(job, 1)
    job.sql("update striped.unit set payload = '\"hang\"'")
    with on_terminal(job, columns) as terminal:
        terminal.await_line("(1 at work")
        terminal.type(b"\x03")
        terminal.await_("it says so", lambda: "1 worker still at work; Ctrl-C again ends" in " ".join(terminal.shown()))
        terminal.type(b"\x03")
        assert terminal.await_end() == 130
        assert "everything was ended at once" in " ".join(terminal.everything())


def test_ctrl_c_of_an_idle_run_drains_and_is_told_by_its_code(job: Job) -> None:
    job.do("migrate")
    with on_terminal(job, 80) as terminal:
        terminal.await_line("nothing to do")
        terminal.type(b"\x03")
        assert terminal.await_end() == 130
        assert any("0 units done" in line for line in terminal.everything())


def test_ctrl_c_of_status_watch_is_an_interruption(job: Job) -> None:
    job.do("migrate")
    command = [sys.executable, "-m", "stripedjob", "status", str(job.file), *job.where, "--watch"]
    with Terminal(command, 80) as terminal:
        terminal.await_line("default/seed")
        terminal.type(b"\x03")
        assert terminal.await_end() == 130
        assert "Aborted" not in " ".join(terminal.everything())


def until_empty(job: Job, *args: str) -> Terminal:
    return on_terminal(job, 100, "--until-empty", *args)


def test_a_suspended_job_says_so(job: Job) -> None:
    job.write(suspend=True)
    put(job, 2)
    with until_empty(job) as terminal:
        terminal.await_line("the job is suspended: nothing is claimed")


def test_no_workers_asked_for_says_so(job: Job) -> None:
    put(job, 2)
    with until_empty(job, "--workers", "0") as terminal:
        terminal.await_line("--workers is 0")


def test_a_lock_of_somebody_else_is_named(job: Job) -> None:
    put(job, 1)
    with redis.Redis.from_url(job.lock_url) as client:
        client.set("{stripedjob:default/seed}:r0", "mine", px=600_000)
        with until_empty(job) as terminal:
            terminal.await_line("r0 waits for its lock, which somebody else has")
            client.delete("{stripedjob:default/seed}:r0")
            assert terminal.await_end() == 0


@pytest.mark.parametrize("strategy", ["FIFO", "Mutex"])
def test_a_retry_is_named_with_its_time(job: Job, strategy: str) -> None:
    (job.folder / "listings.py").write_text("def apply(unit): raise ValueError('not yet')")
    job.write(strategy=strategy, retry={"backoffSeconds": 300})
    put(job, 1)
    with until_empty(job) as terminal:
        line = terminal.await_line("waits for a retry")
        assert re.search(r"r0 waits for a retry \([45]:\d\d left\)", line), line
        terminal.await_line("unit 1 of r0 failed and is tried again in")


def test_units_for_later_are_named_with_their_time(job: Job) -> None:
    put(job, 3, due_at="2999-01-01T00:00:00Z")
    with until_empty(job) as terminal:
        assert "left" in terminal.await_line("waits for its time")
        assert not any("ETA      0" in line for line in terminal.shown())


def test_a_server_that_is_away_is_named(job: Job, tmp_path: Path) -> None:
    (job.folder / "listings.py").write_text("def apply(unit): raise ValueError('not yet')")
    patient = {"maxAttempts": 1000, "backoffSeconds": 1}  # it fails for as long as the test takes
    job.write(handler={"python": "listings:apply"}, scheduleLimit=2, retry=patient)
    home = tmp_path / "valkey"
    home.mkdir()
    server = RestartableValkey(home)
    with running(server):
        job.lock_url = server.url
        put(job, 20)
        with until_empty(job) as terminal:
            terminal.await_line("at work, at most 2)")
            terminal.await_("it fails", lambda: any("tried again" in line for line in terminal.everything()))
            server.kill()
            terminal.await_line("the lock backend is away")
            server.start()


def test_ctrl_c_while_the_program_is_loaded_says_nothing(tmp_path: Path) -> None:
    """Where a module is imported, no handler of the command line is in place yet."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise ImportError\n")
    program = Path(sys.executable).with_name("stripedjob")
    for command in ([sys.executable, "-m", "stripedjob"], [program]):
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([*command, "--version"], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("columns", COLUMNS)
def test_sentences_break_between_words(job: Job, columns: int) -> None:
    """What is said is read again as it was meant by joining the lines; no word is torn at the edge."""
    (job.folder / "listings.py").write_text("def apply(unit):\n    raise ValueError('a reason of quite some words')\n")
    job.write(handler={"python": "listings:apply"}, retry={"maxAttempts": 1})
    put(job, 1)
    with on_terminal(job, columns, "--until-empty") as terminal:
        assert terminal.await_end() == 0
        shown = joined(terminal.everything())
    assert re.search(r"unit 1 of r0 is dead \(1 attempt\): ValueError: a reason of quite some words \(listings", shown)
    assert re.search(r"0 units done; [\d.]+ s in all left in the pool: 1 dead$", shown), shown
    where = [str(job.file), *job.where]
    for command, words in (
        (["explain", *where, "nobody"], "or it never had any under exactly this name."),
        (["status", *where], "dead 1 unit: ValueError: a reason of quite some words (listings.py:2 in apply)"),
        (["history", *where, "--unit", "1"], "error: this job keeps no history: set retention.historySeconds in"),
        (["--help"], "whoever holds them."),
    ):
        with Terminal([sys.executable, "-m", "stripedjob", *command], columns, rows=100) as terminal:
            terminal.await_end()
            assert words in joined(terminal.everything())


def joined(lines: list[str]) -> str:
    return re.sub(" +", " ", " ".join(lines))
