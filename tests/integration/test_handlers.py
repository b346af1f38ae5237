"""Handlers that are commands and endpoints, run by a real executor."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from tests.support.leases import lease, run

from stripedjob.runtime.clock import now
from stripedjob.runtime.handlers import HandlerSettings
from stripedjob.runtime.host import HandlerError, Host
from stripedjob.runtime.messages import Config
from stripedjob.runtime.work import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


def command(script: str, timeout_seconds: float = 30, slots: int = 1) -> Config:
    return Config(HandlerSettings("exec", ("sh", "-c", script), timeout_seconds), slots)


def test_a_command_gets_its_unit_as_json(tmp_path: Path) -> None:
    ended = run([lease("a\u20ac b", {"price": 7}, None)], command(f"cat >> {tmp_path}/got; echo >> {tmp_path}/got"))
    assert (ended[0].tried, ended[0].faults) == (2, ())
    first, second = (json.loads(line) for line in (tmp_path / "got").read_text().splitlines())
    assert first == {"id": 1, "resource": "a\u20ac b", "fence": 1, "attempt": 1, "payload": {"price": 7}}
    assert second["payload"] is None


@pytest.mark.parametrize(
    ("script", "verdict", "reason"),
    [
        ("exit 75", Verdict.RETRY, "it exited with code 75"),
        ("echo no such listing >&2; exit 65", Verdict.DEAD, "it exited with code 65: no such listing"),
        ("exit 1", Verdict.RETRY, "it exited with code 1"),
        ("kill -9 $$", Verdict.RETRY, "it died of SIGKILL"),
    ],
)
def test_an_exit_code_says_what_follows(script: str, verdict: Verdict, reason: str) -> None:
    assert run([lease("a", 1)], command(script))[0].faults == (Fault(0, verdict, reason),)


def test_a_command_over_its_time_is_ended_with_its_children_and_nothing_else(tmp_path: Path) -> None:
    script = f"read unit; case $unit in *slow*) sleep 600 & echo $! > {tmp_path}/pid; wait;; *) exec sleep 1;; esac"
    ended = run([lease("a", "slow", "quick"), lease("b", "quick")], command(script, timeout_seconds=2, slots=2))
    assert [fault.reason for fault in ended[0].faults] == ["it ran over its 2 s and was stopped"]
    assert (ended[0].tried, ended[1].tried, ended[1].faults) == (2, 1, ())
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_large_payload_to_a_command_that_does_not_read_is_no_trouble() -> None:
    assert run([lease("a", "x" * 1_000_000)], command("exit 0"))[0].faults == ()


def test_commands_end_with_their_worker(tmp_path: Path) -> None:
    async def scene() -> int:
        async with Host(command(f"echo $$ > {tmp_path}/pid; exec sleep 600")) as host, asyncio.timeout(30):
            host.board.deadline = now() + 3600
            host.submit([(0, lease("a", 1))])
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await asyncio.sleep(0.02)
        return int((tmp_path / "pid").read_text())

    wait_until_gone(asyncio.run(scene()))


def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(HandlerError, match="there is no executable 'no-such-command'"):
        run([], Config(HandlerSettings("exec", ("no-such-command",))))


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the payload names, and keeps what it got."""

    got: list[tuple[dict[str, str], Any]]

    def do_POST(self) -> None:
        unit = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append((dict(self.headers), unit))
        status, headers = unit["payload"]
        if status == "hang":
            time.sleep(3)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"words")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endpoint() -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    got: list[tuple[dict[str, str], Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answers,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/work", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_endpoint_gets_its_unit_and_its_idempotency_key() -> None:
    with endpoint() as (url, got):
        ended = run([lease("a\u20ac b\n", [200, {}])], Config(HandlerSettings("http", (url,))))
    assert ended[0].faults == ()
    headers, unit = got[0]
    assert unit["payload"] == [200, {}]
    assert unquote(headers["Stripedjob-Resource"]) == "a\u20ac b\n"
    assert (headers["Stripedjob-Fence"], headers["Stripedjob-Unit"]) == ("1", "1")


@pytest.mark.parametrize(
    ("status", "headers", "fault"),
    [
        (429, {"Retry-After": "17"}, Fault(0, Verdict.RETRY, "HTTP 429: words", 17)),
        (503, {}, Fault(0, Verdict.RETRY, "HTTP 503: words")),
        (503, {"Retry-After": "soon"}, Fault(0, Verdict.RETRY, "HTTP 503: words")),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, Fault(0, Verdict.RETRY, "HTTP 429: words", 0)),
        (404, {}, Fault(0, Verdict.DEAD, "HTTP 404: words")),
        (500, {}, Fault(0, Verdict.RETRY, "HTTP 500: words")),
        (300, {}, Fault(0, Verdict.RETRY, "HTTP 300: words")),
    ],
)
def test_a_status_says_what_follows(status: int, headers: dict[str, str], fault: Fault) -> None:
    with endpoint() as (url, _):
        assert run([lease("a", [status, headers])], Config(HandlerSettings("http", (url,))))[0].faults == (fault,)


def test_an_endpoint_that_hangs_or_is_away_is_tried_again() -> None:
    with endpoint() as (url, _):
        handler = HandlerSettings("http", (url,), timeout_seconds=0.3)
        (late,) = run([lease("a", ["hang", {}])], Config(handler))[0].faults
    (away,) = run([lease("a", 1)], Config(replace(handler, target=("http://127.0.0.1:1/",))))[0].faults
    assert (late.verdict, late.reason) == (Verdict.RETRY, "no answer within 0.3 s")
    assert (away.verdict, "Connect" in away.reason) == (Verdict.RETRY, True)
