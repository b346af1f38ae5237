"""`kubectl striped`: with a real cluster's rights and pods, and no worker at all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cluster_kit.fixtures import await_
from tests.support.pods import template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.pods import PodJob, Site

PATIENCE_SECONDS = 120


def plugin(site: Site, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a call of `kubectl striped`, found by kubectl itself as a plugin on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(site.kubectl.path)
    (programs / "kubectl-striped").write_text(
        f'#!/bin/sh\nexec {sys.executable} -P -c "from stripedjob.kubectl import main; main()" "$@"\n'
    )
    (programs / "kubectl-striped").chmod(0o755)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": site.kubectl.kubeconfig}

    def call(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "striped", *args, "--namespace", site.kubectl.namespace]
        return subprocess.run(
            command, input=stdin, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    return call


def test_commands_without_a_worker(site: Site, job: PodJob, tmp_path: Path) -> None:
    job.apply(suspend=True, template=template())
    job.jobs.until("Ready", "Suspended", job.name)
    call = plugin(site, tmp_path)
    units = tmp_path / "units.csv"
    units.write_text('resource,payload\n"a b",1\nc,2\n')
    put = call("enqueue", job.name, "--from", str(units))
    assert (put.returncode, put.stdout.strip()) == (0, f"2 units enqueued for {job.name}"), put.stderr
    more = call("enqueue", job.name, "--from", "-", "--format", "csv", stdin="resource,payload\nc,3\n")
    assert (more.returncode, more.stdout.strip()) == (0, f"1 unit enqueued for {job.name}"), more.stderr
    status = call("status", job.name)
    assert status.returncode == 0, status.stderr
    assert "pending    3 units" in status.stdout
    explained = call("explain", job.name, "a b")
    assert "suspended" in explained.stdout, explained.stderr
    bad = call("enqueue", job.name, "--from", "-", "--format", "csv", stdin="nosuch\n1\n")
    assert bad.returncode == 65
    assert "nosuch" in bad.stdout
    left = "app.kubernetes.io/name=stripedjob-cli"
    await_("the pods are gone", lambda: not site.kubectl("get", "pods", "-l", left, "-o", "name"), 30)


def test_who_may_not_make_pods_is_told_so_by_the_api_server(site: Site, job: PodJob, tmp_path: Path) -> None:
    job.apply(suspend=True, template=template())
    job.jobs.until("Ready", "Suspended", job.name)
    refused = plugin(site, tmp_path)("status", job.name, "--as", "system:serviceaccount:default:nobody")
    assert refused.returncode == 1
    assert "forbidden" in refused.stderr
