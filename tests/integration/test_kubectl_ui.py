"""`kubectl striped ui`, with a kubectl that stands in for the cluster, and the real page behind its port-forward."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.support.pages import Page, filled, page_of, token_of

from stripedjob.ui.access import Everybody
from stripedjob.ui.app import Served
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.queues import Queue

    from stripedjob.ui.access import Viewer

KUBECTL = """
import json, pathlib, sys, time
state = json.loads(pathlib.Path({state!r}).read_text())
with pathlib.Path({asked!r}).open("a") as file:
    print(*sys.argv[1:], file=file)
match sys.argv[1:]:
    case ["get", "services", *rest]:
        if "--all-namespaces" in rest and not state["everywhere"]:
            sys.exit("services is forbidden")
        found = [dict(zip(("name", "namespace"), one)) for one in state["pages"]]
        print(json.dumps({{"items": [{{"metadata": one}} for one in found]}}))
    case ["config", "view", *_]:
        print(json.dumps({{"users": [{{"user": state["user"]}}]}}))
    case ["create", "token", name, *_]:
        print(state["tokens"][name]) if name in state["tokens"] else sys.exit(f'serviceaccounts "{{name}}" not found')
    case ["port-forward", *_]:
        if not state["port"]:
            sys.exit("error: unable to forward port because pod is not running")
        print(f"Forwarding from 127.0.0.1:{{state['port']}} -> 8095", flush=True)
        time.sleep(state["lives"])
"""
END_SECONDS_MAX = 20


@dataclass
class Tokens:
    """Lets in who has the token; notes what others came with."""

    good: str
    wrong: list[str] = field(default_factory=list)

    async def viewer(self, headers: Mapping[str, str]) -> Viewer | None:
        if headers.get("Authorization") == f"Bearer {self.good}":
            return Everybody(Rights(actions=True), "ann")
        self.wrong.append(str(headers.get("Authorization")))
        return None


@dataclass
class Plugin:
    folder: Path
    state: dict[str, Any]

    def start(self, *args: str) -> subprocess.Popen[str]:
        state, asked = self.folder / "state.json", self.folder / "asked"
        state.write_text(json.dumps(self.state))
        program = self.folder / "kubectl"
        program.write_text(f"#!{sys.executable}\n{KUBECTL.format(state=str(state), asked=str(asked))}")
        program.chmod(0o755)
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "from stripedjob.kubectl import main; main()", "ui", *args],
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str) -> tuple[int, str]:
        process = self.start(*args)
        said = "".join(process.communicate(timeout=END_SECONDS_MAX))
        assert "Traceback" not in said
        return process.returncode, said

    @contextmanager
    def page(self, *args: str) -> Iterator[Page]:
        process = self.start("--port", "0", *args)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("the page is at http://127.0.0.1:"), line + process.communicate()[1]
            assert line.endswith("/; Ctrl-C ends it\n")
            yield Page(line.split()[4].rstrip("/;"))
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=END_SECONDS_MAX)
        assert (process.returncode, out, err) == (130, "", "")

    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture
def access() -> Tokens:
    return Tokens("ann's token")


@pytest.fixture
def plugin(pool: Queue, access: Tokens, tmp_path: Path) -> Iterator[Plugin]:
    with page_of(Served(pool.url, rights=Rights(actions=True), access=access)) as base:
        state = {
            "everywhere": True,
            "pages": [["stripedjob-ui", "stripedjob"]],
            "user": {"token": "ann's token"},
            "tokens": {},
            "port": urlsplit(base).port,
            "lives": 3600,
        }
        yield Plugin(tmp_path, state)


def test_the_page_is_seen_and_acted_on_with_ones_own_token(pool: Queue, access: Tokens, plugin: Plugin) -> None:
    with plugin.page() as page:
        assert page.ask("/", {"Authorization": "Bearer of somebody else"}).status == 200
        path = f"/jobs/{pool.job_id}/do/pause"
        answer = page.ask(path, {"Origin": page.base}, {"token": token_of(page.ask(path)), "why": "é&="})
        assert answer.status == 303
        assert "It is paused." in page.ask(answer.headers["Location"]).text
        assert pool.db.execute("select paused_by, paused_why from striped.job").fetchone() == ("ann", "é&=")
        assert page.ask("/", {"Host": "evil.example"}).status == 421
        forged = page.ask(path, {"Origin": "http://evil.example"}, {"token": token_of(page.ask(path))})
        assert forged.status == 403
    assert access.wrong == []
    (forward,) = [line for line in plugin.asked() if line.startswith("port-forward")]
    assert forward == "port-forward service/stripedjob-ui :http --address=127.0.0.1 --namespace=stripedjob"


def test_what_changes_comes_as_it_comes(pool: Queue, plugin: Plugin) -> None:
    with plugin.page() as page:
        conn = http.client.HTTPConnection(urlsplit(page.base).netloc, timeout=30)
        conn.request("GET", f"/jobs/{pool.job_id}", headers={"Accept": "text/event-stream"})
        answer = conn.getresponse()
        assert answer.headers["Content-Type"] == "text/event-stream"
        pool.put("comes now", importance=5)
        pool.runner.run(pool.pool.upkeep(pool.job_id))
        end = time.monotonic() + END_SECONDS_MAX
        while "comes now" not in answer.readline().decode():
            assert time.monotonic() < end
        conn.close()


@pytest.mark.parametrize(
    "user",
    [
        {"tokenFile": "{file}"},
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "{program}", "args": ["a b"]}},
        {"client-certificate-data": "x"},
    ],
    ids=["file", "exec", "certificate"],
)
def test_the_token_is_the_one_that_kubectl_has(plugin: Plugin, tmp_path: Path, user: dict[str, Any]) -> None:
    file, program = tmp_path / "token", tmp_path / "login"
    file.write_text("ann's token\n")
    program.write_text('#!/bin/sh\n[ "$1" = "a b" ] && echo "{\\"status\\": {\\"token\\": \\"ann\'s token\\"}}"\n')
    program.chmod(0o755)
    plugin.state["user"] = json.loads(json.dumps(user).replace("{file}", str(file)).replace("{program}", str(program)))
    plugin.state["tokens"] = {"looker": "ann's token"}
    options = ["--token-of", "looker"] if "client-certificate-data" in user else []
    with plugin.page(*options) as page:
        assert page.ask("/").status == 200


WRONG: dict[str, tuple[dict[str, Any], list[str], int, str]] = {
    "no page": ({"pages": []}, [], 1, "there is no page: helm upgrade RELEASE deploy/helm/stripedjob"),
    "no page of this name": ({}, ["other"], 1, "there is no page called other"),
    "two": ({"pages": [["a", "x"], ["b", "y"]]}, [], 1, "there are 2 pages, say which: a -n x, b -n y"),
    "no token": ({"user": {}}, [], 1, "kubectl has no bearer token"),
    "no account": ({}, ["--token-of", "nobody"], 1, 'serviceaccounts "nobody" not found'),
    "no pod": ({"port": 0}, [], 1, "cannot be reached: error: unable to forward port because pod is not running"),
    "the pod goes": ({"lives": 0}, ["--port", "0"], 1, "the port-forward has ended"),
    "no right": ({"everywhere": False, "pages": []}, ["-n", "shop"], 1, "there is no page"),
    "a wrong port": ({}, ["--port", "x"], 2, "--port wants a port"),
    "another option": ({}, ["--yes"], 2, "'--yes' is not understood"),
    "help": ({}, ["--help"], 0, "kubectl striped ui [SERVICE]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_the_way_out(plugin: Plugin, case: str) -> None:
    state, args, code, words = WRONG[case]
    plugin.state |= state
    found, said = plugin.run(*args)
    assert (found, words in said) == (code, True), said


def test_a_page_of_ones_own_namespace_is_found_where_others_may_not_be_seen(plugin: Plugin) -> None:
    plugin.state["everywhere"] = False
    with plugin.page() as page:
        assert page.ask("/").status == 200


def test_a_port_that_is_taken_is_named(plugin: Plugin) -> None:
    code, said = plugin.run("--port", str(plugin.state["port"]))
    assert (code, f"port {plugin.state['port']} of this machine: " in said) == (1, True), said
