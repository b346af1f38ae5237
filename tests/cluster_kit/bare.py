"""Provider `bare`: Kubernetes built from source, run as processes of this machine, without a container engine."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from tests.cluster_kit import build, control_plane, images, machine, node, processes
from tests.cluster_kit.home import STATE, UnavailableError, say
from tests.cluster_kit.provider import Cluster

if TYPE_CHECKING:
    from tests.cluster_kit.provider import Level

SOCKET_PATH_MAX = 100  # the kernel's limit for a socket's path is 108


class Bare:
    name = "bare"

    def why_not(self, level: Level) -> str | None:
        if sys.platform != "linux":
            return "it runs on Linux alone"
        if level == "node":
            if not shutil.which("apt-get"):
                return "the node's programs come from Debian's packages"
            if len(str(node.SOCKET)) > SOCKET_PATH_MAX:
                return f"the path of {node.SOCKET} is too long for a socket"
            if reason := machine.why_not():
                return reason
        try:
            build.find_go()
        except UnavailableError as error:
            return str(error)
        return None

    def up(self, level: Level) -> Cluster:
        is_node = level == "node"
        build.ensure((*build.CONTROL_PLANE, *(build.NODE if is_node else ())))
        if is_node:
            node.ensure()
        self.down()
        STATE.mkdir(parents=True, mode=0o700)
        say(f"starting the control plane{' and one node' if is_node else ''}")
        if is_node:
            machine.prepare()
            node.start_containerd()
        plane = control_plane.start(machine.ADDRESS if is_node else "127.0.0.1", is_node=is_node)
        if is_node:
            node.start(plane)
        return Cluster(self.name, level, control_plane.KUBECONFIG, build.path("kubectl"), build.path("helm"))

    def down(self) -> None:
        if not STATE.exists():
            return
        processes.end_all(machine.contained if machine.CHANGES.exists() else list)
        machine.restore()
        shutil.rmtree(STATE)

    def parts(self) -> dict[str, str]:
        return {
            part: f"{len(found)} process{'es' if len(found) > 1 else ''}, pid {min(one.pid for one in found)}"
            for part, found in sorted(processes.running().items())
        }

    def images(self, *, load: bool) -> list[str]:
        build.ensure((*build.CONTROL_PLANE, *build.NODE))
        node.ensure()
        archives = images.ensure()
        if load:
            there = STATE / "loaded"
            known = there.read_text().split() if there.exists() else []
            for archive in archives:
                if archive.name not in known:
                    say(f"loading {archive.name}")
                    node.load(archive)
            there.write_text("\n".join(archive.name for archive in archives))
        return [image.name for image in images.ALL]
