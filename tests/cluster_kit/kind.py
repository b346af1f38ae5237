"""Provider `kind`: a cluster in Docker containers, as kind-config.yaml describes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tests.cluster_kit import build, images
from tests.cluster_kit.home import ROOT, STATE, ClusterError, run, say
from tests.cluster_kit.provider import Cluster

if TYPE_CHECKING:
    from tests.cluster_kit.provider import Level

CONFIG = ROOT / "kind-config.yaml"
UP_SECONDS_MAX = 900
READY_TIMEOUT = "120s"
DELETE_SECONDS_MAX = 120


class Kind:
    name = "kind"

    def __init__(self) -> None:
        self._cluster = str(yaml.safe_load(CONFIG.read_text())["name"])

    def why_not(self, level: Level) -> str | None:  # noqa: ARG002 - it has every level or none
        for program in ("kind", "docker"):
            if not shutil.which(program):
                return f"{program} is not installed"
        try:
            run(["docker", "info"], seconds=20)
        except ClusterError:
            return "no Docker daemon answers"
        return None

    def up(self, level: Level) -> Cluster:  # noqa: ARG002
        cluster = Cluster(self.name, "node", STATE / "kubeconfig", _tool("kubectl"), _tool("helm"))
        STATE.mkdir(parents=True, exist_ok=True)
        if self._is_there():
            run(["kind", "export", "kubeconfig", "--name", self._cluster, "--kubeconfig", cluster.kubeconfig])
            if self._is_ready(cluster):
                return cluster
            say(f"the cluster {self._cluster} is not whole: kind deletes it")
            self._delete()
        say(f"kind creates the cluster {self._cluster}")
        flags = ("--config", CONFIG, "--wait", READY_TIMEOUT, "--kubeconfig", cluster.kubeconfig)
        run(["kind", "create", "cluster", *flags], seconds=UP_SECONDS_MAX)
        return cluster

    def down(self) -> None:
        if self.why_not("node") is None and self._is_there():
            self._delete()
        shutil.rmtree(STATE, ignore_errors=True)

    def _is_there(self) -> bool:
        return self._cluster in run(["kind", "get", "clusters"]).split()

    def _is_ready(self, cluster: Cluster) -> bool:
        """Return whether its nodes are Ready: a creation that was killed leaves one whose nodes never are."""
        wait = ("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={READY_TIMEOUT}")
        try:
            run([cluster.kubectl, "--kubeconfig", cluster.kubeconfig, *wait], seconds=UP_SECONDS_MAX)
        except ClusterError:
            return False
        return True

    def _delete(self) -> None:
        run(["kind", "delete", "cluster", "--name", self._cluster], seconds=DELETE_SECONDS_MAX)

    def parts(self) -> dict[str, str]:
        form = "{{.Names}}\t{{.Status}}"
        label = f"label=io.x-k8s.kind.cluster={self._cluster}"
        try:
            lines = run(["docker", "ps", "--all", "--filter", label, "--format", form]).splitlines()
        except ClusterError:  # without Docker nothing of it runs
            return {}
        return dict(line.split("\t", 1) for line in lines)

    def images(self, *, load: bool) -> list[str]:
        for image in images.ALL:
            say(f"image {image.name}")
            if image.official:
                run(["docker", "pull", image.official], seconds=UP_SECONDS_MAX)
                run(["docker", "tag", image.official, image.name])
            else:
                arguments = {"PIP_INDEX_URL": os.environ.get("PIP_INDEX_URL"), "BASE": image.base and image.base.name}
                words = [f"--build-arg={name}={value}" for name, value in arguments.items() if value]
                where = ("--file", image.dockerfile, "--tag", image.name, image.context)
                run(["docker", "build", *words, *where], seconds=UP_SECONDS_MAX)
        names = [image.name for image in images.ALL]
        if load:
            run(["kind", "load", "docker-image", *names, "--name", self._cluster], seconds=UP_SECONDS_MAX)
        return names


def _tool(program: str) -> Path:
    """Take it from the machine, or build it."""
    found = shutil.which(program)
    if found:
        return Path(found)
    build.ensure([program])
    return build.path(program)
