"""`stripedjob ui` as a person starts it: with a file and with a URL, with mistakes, and to its end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.support.engines import end_engines
from tests.support.pages import Page
from tests.support.runs import Job, stripedjob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

END_SECONDS_MAX = 20


@pytest.fixture
def job(fresh_database: str, fresh_valkey: str, tmp_path: Path) -> Job:
    made = Job(tmp_path, fresh_database, fresh_valkey)
    made.create(10, 5)
    return made


@contextmanager
def started(*args: str) -> Iterator[tuple[Page, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "stripedjob", "ui", *args, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"the page is at (http://127\.0\.0\.1:\d+)/; Ctrl-C ends it", line)
        assert found, line + (process.stderr.read() if process.stderr else "")
        yield Page(found[1]), process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_with_a_file_the_lock_is_seen_too(job: Job) -> None:
    job.sql("insert into striped.worker (id, job_id, name, expires_at) values (7, 1, 'w', now() + interval '1 h')")
    with started(str(job.file), *job.where) as (page, _):
        assert "default/seed" in page.ask("/").text
        assert "free" in page.ask("/jobs/1/resource?name=resource-0").text
        assert page.ask("/jobs/1/do/purge?state=dead").status == 403


def test_with_a_url_all_jobs_of_the_pool_are_seen(job: Job) -> None:
    with started("--postgres", job.url, "--allow-actions", "--show-payloads") as (page, _):
        assert "default/seed" in page.ask("/").text
        resource = page.ask("/jobs/1/resource?name=resource-0").text
        assert "not known here" in resource
        assert "number" in resource
        assert page.ask("/jobs/1/do/purge?state=dead").status == 200


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_ends_when_it_is_told(job: Job, number: signal.Signals, code: int) -> None:
    with started("--postgres", job.url) as (page, process):
        assert page.ask("/").status == 200
        process.send_signal(number)
        assert process.wait(END_SECONDS_MAX) == code
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_embedded_engines_are_used_where_they_are(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        "{apiVersion: striped.dev/v1alpha1, kind: StripedJob, metadata: {name: a}, spec: {handler: {exec: ['true']}}}"
    )
    try:
        absent = stripedjob("ui", job)
        assert absent.returncode == 1
        assert "there is no pool in" in absent.stderr
        assert stripedjob("create-work", job, "--units", "1", "--resources", "1").returncode == 0
        with started(str(job)) as (page, _):
            assert "default/a" in page.ask("/").text
    finally:
        end_engines(tmp_path)


def test_mistakes_are_one_line(fresh_database: str) -> None:
    nothing = stripedjob("ui")
    assert nothing.returncode == 2
    assert "Say where the pool is: FILE, or --postgres." in nothing.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = stripedjob("ui", "--postgres", fresh_database, "--port", str(port))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert str(port) in refused.stderr


def test_without_its_packages_it_says_which_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['jinja2'] = None; from stripedjob.cli import main; main(['ui', 'job.yaml'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("the page is not installed (jinja2): pip install 'stripedjob[ui]'\n")
