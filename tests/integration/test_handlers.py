"""Handlers that are commands and endpoints, run by a real executor."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
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
from stripedjob.runtime.executor.faults import storable
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor, HandlerError
from stripedjob.runtime.executor.wire import Config
from stripedjob.runtime.handlers.settings import HandlerSettings
from stripedjob.runtime.outcome import Fault, Verdict

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
        async with (
            ExecutorSupervisor(command(f"echo $$ > {tmp_path}/pid; exec sleep 600")) as executor,
            asyncio.timeout(30),
        ):
            executor.shared_state.deadline = now() + 3600
            executor.submit([(0, lease("a", 1))])
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await asyncio.sleep(0.02)
        return int((tmp_path / "pid").read_text())

    wait_until_gone(asyncio.run(scene()))


HOLDS = "import os, time; os.setsid() if {apart} else None; os.close(1); os.mkdir('{there}'); time.sleep(3600)"


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("code", [0, 65])
def test_the_exit_code_decides_though_a_child_holds_stderr_open(code: int, apart: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A daemon, an ssh master, an agent: in its group, where it ends too, or in one of its own, where it goes on."""
    there = tmp_path / "there"
    holds = HOLDS.format(apart=apart, there=there).replace("'", '"')
    child = f"{sys.executable} -c '{holds}' & echo $! > {tmp_path}/pid; until [ -e {there} ]; do sleep 0.01; done"
    faults = run([lease("a", 1)], command(f"echo words >&2; {child}; exit {code}", timeout_seconds=20))[0].faults
    assert faults == (() if code == 0 else (Fault(0, Verdict.DEAD, "it exited with code 65: words"),))
    pid = int((tmp_path / "pid").read_text())
    if apart:
        os.kill(pid, signal.SIGKILL)
    else:
        wait_until_gone(pid)


@pytest.mark.parametrize("order", ["stderr first", "stdin first", "both"])
def test_a_command_may_read_and_write_in_any_order(order: str) -> None:
    """A megabyte each way, more than pipes take; the second command hangs after all of it, and is ended in time."""
    write = "head -c 1000000 /dev/zero | tr '\\0' x >&2"
    script = {"stderr first": f"{write}; cat > /dev/null", "stdin first": f"cat > /dev/null; {write}"}
    text = script.get(order, f"{write} & cat > /dev/null; wait")
    assert run([lease("a", "x" * 1_000_000)], command(f"{text}; exit 0"))[0].faults == ()
    (fault,) = run([lease("a", "x" * 1_000_000)], command(f"{write}; sleep 600", timeout_seconds=1))[0].faults
    assert fault.reason == "it ran over its 1 s and was stopped"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("printf '\\377\\000\\355\\240\\200' >&2; exit 1", "it exited with code 1: "),
        ("head -c 5000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1", "xend"),
        ("kill -63 $$", "it died of signal 63"),
    ],
)
def test_any_words_of_a_command_can_be_stored(script: str, reason: str) -> None:
    (fault,) = run([lease("a", 1)], command(script))[0].faults
    assert reason in fault.reason
    assert "\0" not in storable(fault.reason)
    assert len(fault.reason.encode()) < 6_100


def test_what_a_command_writes_to_stdout_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    run([lease("a", 1)], command("echo shown; echo hidden >&2"))
    out, err = capfd.readouterr()
    assert (out, "shown\n" in err, "hidden" in err) == ("", True, False)


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
    ended: threading.Event

    def do_POST(self) -> None:
        unit = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append((dict(self.headers), unit))
        status, headers, *rest = unit["payload"]
        if status == "hang":
            time.sleep(3)
            return
        if rest:  # the whole answer, as it is on the wire
            self.wfile.write(rest[0].encode("latin-1"))
            if len(rest) > 1:
                self.ended.wait(20)
            self.close_connection = True
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
    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answers,), {"got": got, "ended": ended}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/work", got
    finally:
        ended.set()
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


NOT_FOLLOWED = "and redirects are not followed"
LOCATIONS = (
    ("/other?token=secret#secret", "/other"),
    ("http://user:secret@127.0.0.1/other", "http://127.0.0.1/other"),
    ("http://[secret", "what is no URL"),
    ("/" + "x" * 3_000, "/" + "x" * 199),
)


RETRY_AFTER: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("9" * 5_000, 86_400.0),
    ("-1", None),
    ("1.5", None),
    ("inf", None),
    ("nan", None),
    ("", None),
    ("1e9", None),
    ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
    ("Fri, 31 Dec 9999 23:59:59 -0000", 86_400.0),
    ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ("Fri, 31 Dec 0001 00:00:00 +9999", None),
    ("Wed, 99 Oct 2015 99:99:99 GMT", None),
    (",;:", None),
]


STATUSES: list[tuple[int, dict[str, str], tuple[Verdict, str, float | None]]] = [
    (429, {"Retry-After": "17"}, (Verdict.RETRY, "HTTP 429: words", 17)),
    (503, {}, (Verdict.RETRY, "HTTP 503: words", None)),
    (503, {"Retry-After": "soon"}, (Verdict.RETRY, "HTTP 503: words", None)),
    (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, (Verdict.RETRY, "HTTP 429: words", 0)),
    (404, {}, (Verdict.DEAD, "HTTP 404: words", None)),
    (500, {}, (Verdict.RETRY, "HTTP 500: words", None)),
    (300, {}, (Verdict.RETRY, "HTTP 300: words", None)),
    *(
        (status, {"Location": where}, (Verdict.RETRY, f"HTTP {status}: it points to {shown}, {NOT_FOLLOWED}", None))
        for status in (300, 301, 302, 303, 307, 308)
        for where, shown in LOCATIONS
    ),
    *((503, {"Retry-After": after}, (Verdict.RETRY, "HTTP 503: words", seconds)) for after, seconds in RETRY_AFTER),
]


def test_a_status_says_what_follows() -> None:
    payloads = [[status, headers] for status, headers, _ in STATUSES]
    with endpoint() as (url, got):
        faults = run([lease("a", *payloads)], Config(HandlerSettings("http", (url,))))[0].faults
    assert len(got) == len(STATUSES)
    assert list(faults) == [
        Fault(i, verdict, reason, seconds) for i, (_, _, (verdict, reason, seconds)) in enumerate(STATUSES)
    ]


def test_an_endpoint_that_hangs_or_is_away_is_tried_again() -> None:
    with endpoint() as (url, _):
        handler = HandlerSettings("http", (url,), timeout_seconds=0.3)
        (late,) = run([lease("a", ["hang", {}])], Config(handler))[0].faults
    (away,) = run([lease("a", 1)], Config(replace(handler, target=("http://127.0.0.1:1/",))))[0].faults
    assert (late.verdict, late.reason) == (Verdict.RETRY, "no answer within 0.3 s")
    assert (away.verdict, "Connect" in away.reason) == (Verdict.RETRY, True)


def head(status: int, *lines: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status} Words", *lines, "", ""])


BOMB = gzip.compress(b"x" * 10_000_000).decode("latin-1")


ANSWERS: list[tuple[list[str], Verdict | None, str]] = [
    ([head(200, "Content-Length: 1000000000") + "begun", "stall"], None, ""),
    ([head(500, "Content-Length: 1000000000") + "begun", "stall"], Verdict.RETRY, "HTTP 500: begun"),
    ([head(404) + "x" * 1_000_000], Verdict.DEAD, "HTTP 404: " + "x" * 500),
    ([head(500, "Content-Length: 50") + "cut"], Verdict.RETRY, "HTTP 500: cut"),
    ([head(200, "Content-Length: 50") + "cut"], None, ""),
    ([head(500, "Transfer-Encoding: chunked") + "zz\r\nx"], Verdict.RETRY, ""),
    ([head(500, "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}") + BOMB], Verdict.RETRY, "HTTP 500: "),
    ([head(101, "Upgrade: x", "Connection: upgrade")], Verdict.RETRY, ""),
    ([head(200, "X: " + "y" * 1_000_000)], Verdict.RETRY, ""),
    ([head(999)], Verdict.RETRY, "HTTP 999"),
    (["no HTTP at all\r\n\r\n"], Verdict.RETRY, ""),
    ([""], Verdict.RETRY, "ServerDisconnectedError"),
]


def test_any_answer_is_heard_within_bounds() -> None:
    payloads = [[0, {}, *answer] for answer, _, _ in ANSWERS]
    with endpoint() as (url, _):
        config = Config(HandlerSettings("http", (url.replace("//", "//user:secret@"),), timeout_seconds=10))
        outcome = run([lease("a", *payloads)], config)[0]
    assert outcome.tried == len(ANSWERS)
    faults = {fault.index: fault for fault in outcome.faults}
    for i, (_, verdict, reason) in enumerate(ANSWERS):
        fault = faults.get(i)
        assert (fault and fault.verdict) == verdict
        assert fault is None or fault.reason.startswith(reason)
        assert fault is None or len(storable(fault.reason)) < 1_000
        assert fault is None or "secret" not in fault.reason


def test_a_cookie_of_one_unit_is_not_sent_with_the_next() -> None:
    with endpoint() as (url, got):
        payload = [200, {"Set-Cookie": "session=of-a; Path=/"}]
        executor = url.replace("127.0.0.1", "localhost")
        assert run([lease("a", payload, payload)], Config(HandlerSettings("http", (executor,))))[0].faults == ()
    assert [headers.get("Cookie") for headers, _ in got] == [None, None]


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with endpoint() as (url, _):
        assert run([lease("a", [200, {}])], Config(HandlerSettings("http", (url,))))[0].faults == ()
