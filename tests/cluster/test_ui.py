"""The page in a cluster: its own process with the chart's rights, and people whom a real API server judges."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.cluster_kit.fixtures import await_
from tests.cluster_kit.home import ROOT
from tests.support.pages import Page, filled, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster_kit.fixtures import Program
    from tests.support.queues import Queue

CHART = ROOT / "deploy" / "helm" / "stripedjob"
VALUES = {"replicas": 0, "crds": {"install": False}, "ui": {"enabled": True, "secret": {"name": "pool"}}}
START_SECONDS_MAX = 60
END_SECONDS_MAX = 20
RIGHTS = ("--allow-actions", "--show-payloads")
PEOPLE = {"looker": "get", "actor": "get,update", "nobody": ""}


@dataclass
class Site:
    """The page, the pool that it shows, and people's tokens."""

    page: Page
    pool: Queue
    tokens: dict[str, str]
    process: subprocess.Popen[bytes]

    def ask(self, who: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        answer = self.page.ask(path, {"Authorization": f"Bearer {self.tokens[who]}"}, form)
        return answer.status, answer.text


@pytest.fixture
def people(crd: None, kubectl: Program) -> dict[str, str]:  # noqa: ARG001
    """Make people, with what they may do to StripedJobs in the test's namespace; gives their tokens."""
    for name, verbs in PEOPLE.items():
        kubectl("create", "serviceaccount", name)
        if verbs:
            kubectl("create", "role", name, f"--verb={verbs}", "--resource=stripedjobs.striped.dev")
            kubectl("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={kubectl.namespace}:{name}")
    return {name: kubectl("create", "token", name, "--duration=1h").strip() for name in PEOPLE}


@pytest.fixture
def site(
    people: dict[str, str], kubectl: Program, helm: Program, queue_database: str, tmp_path: Path
) -> Iterator[Site]:
    helm("install", "page", CHART, "--values", "-", stdin=yaml.safe_dump(VALUES))
    config = yaml.safe_load(kubectl("config", "view", "--raw"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", "page-ui", "--duration=1h").strip()}
    file = tmp_path / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        with filled(queue_database) as pool:
            pool.db.execute("update striped.job set namespace = %s", [kubectl.namespace])
            options = ["--postgres", pool.url, "--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen(
                [sys.executable, "-m", "stripedjob_operator.page_command", *options, *RIGHTS],
                cwd=ROOT,
                env=os.environ | {"KUBECONFIG": str(file)},
            )
            made = Site(Page(f"http://127.0.0.1:{port}"), pool, people, process)
            try:
                await_("the page is served", lambda: serves(made), START_SECONDS_MAX)
                yield made
            finally:
                process.kill()
                process.wait()
    finally:
        helm("uninstall", "page")


def serves(site: Site) -> bool:
    try:
        return site.page.ask("/static/icon.svg").status == 200
    except OSError:
        return False


def test_the_api_server_says_who_sees_and_changes_what(site: Site, kubectl: Program) -> None:
    job, name = f"/jobs/{site.pool.job_id}", f"{kubectl.namespace}/sync"
    action = f"{job}/do/purge?state=held"
    assert site.page.ask("/").status == 401
    assert site.page.ask(job, {"X-Forwarded-User": f"system:serviceaccount:{kubectl.namespace}:actor"}).status == 401

    assert name not in site.ask("nobody", "/")[1]
    for path in (job, f"{job}/dead", f"{job}/resource?name=busy", f"{job}/units/1"):
        assert site.ask("nobody", path)[0] == 404
        assert site.ask("looker", path)[0] == 200
    assert site.ask("nobody", action)[0] == 503  # as for a job that is not there

    assert name in site.ask("looker", "/")[1]
    assert "/do/" not in site.ask("looker", f"{job}/held")[1]
    assert site.ask("looker", action)[0] == 403

    assert "/do/purge" in site.ask("actor", f"{job}/held")[1]
    asked = site.page.ask(action, {"Authorization": f"Bearer {site.tokens['actor']}"})
    assert site.ask("looker", action, {"token": token_of(asked)})[0] == 403
    assert site.pool.one("select count(*) from striped.unit where state = 'held'") == 1
    assert site.ask("actor", action, {"token": token_of(asked)})[0] == 303
    assert site.pool.one("select count(*) from striped.unit where state = 'held'") == 0

    site.process.terminate()
    assert site.process.wait(END_SECONDS_MAX) == 0
