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
        kubeconfig = STATE / "kubeconfig"
        if self._cluster not in run(["kind", "get", "clusters"]).split():
            say(f"kind creates the cluster {self._cluster}")
            wait = ("--config", CONFIG, "--wait", "120s")
            STATE.mkdir(parents=True, exist_ok=True)
            run(["kind", "create", "cluster", *wait, "--kubeconfig", kubeconfig], seconds=UP_SECONDS_MAX)
        else:
            run(["kind", "export", "kubeconfig", "--name", self._cluster, "--kubeconfig", kubeconfig])
        return Cluster(self.name, "node", kubeconfig, _tool("kubectl"), _tool("helm"))

    def down(self) -> None:
        if shutil.which("kind") and self._cluster in run(["kind", "get", "clusters"]).split():
            run(["kind", "delete", "cluster", "--name", self._cluster], seconds=120)
        shutil.rmtree(STATE, ignore_errors=True)

    def parts(self) -> dict[str, str]:
        form = "{{.Names}}\t{{.Status}}"
        label = f"label=io.x-k8s.kind.cluster={self._cluster}"
        lines = run(["docker", "ps", "--all", "--filter", label, "--format", form]).splitlines()
        return dict(line.split("\t", 1) for line in lines)

    def images(self, *, load: bool) -> list[str]:
        for image in images.ALL:
            say(f"image {image.name}")
            if image.official:
                run(["docker", "pull", image.official], seconds=UP_SECONDS_MAX)
                run(["docker", "tag", image.official, image.name])
            else:
                url = os.environ.get("PIP_INDEX_URL")
                index = [f"--build-arg=PIP_INDEX_URL={url}"] if url else []
                where = ("--file", image.dockerfile, "--tag", image.name, image.context)
                run(["docker", "build", *index, *where], seconds=UP_SECONDS_MAX)
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
