"""One node as processes of this machine: containerd, kubelet, kube-proxy, CoreDNS. Needs root and Debian's packages."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.cluster_kit import build, debian, images, processes
from tests.cluster_kit.control_plane import KUBECONFIG, PKI, _free_ports
from tests.cluster_kit.home import STATE, run
from tests.cluster_kit.machine import ADDRESS, BRIDGE, CGROUP, PODS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster_kit.control_plane import ControlPlane

PACKAGES = ("containernetworking-plugins", "iproute2", "nftables")
CNI_BINARIES = "/usr/lib/cni"
NAME = "striped"
SOCKET = STATE / "containerd.sock"
PARTS = ("containerd", "kubelet", "kube-proxy", "coredns")
READY_SECONDS_MAX = 60
PODS_MAX = 200


def ensure() -> None:
    """Install and build what a node needs."""
    debian.ensure(PACKAGES)
    build.ensure(build.NODE)


def start_containerd() -> None:
    """Start containerd and give it the pause image; it needs no API server."""
    network = STATE / "cni"
    network.mkdir(exist_ok=True)
    plugin = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(STATE / "addresses"),
        },
    }
    _json(network / "10-pods.conflist", {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]})
    (STATE / "containerd.toml").write_text(f"""version = 3
root = "{STATE}/containerd"
state = "{STATE}/containerd-run"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{images.PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_BINARIES}"]
conf_dir = "{network}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{build.path("runc")}"
SystemdCgroup = false
""")
    shims = build.path("containerd-shim-runc-v2").parent
    processes.start(
        "containerd",
        [build.path("containerd"), "--config", STATE / "containerd.toml"],
        env={"PATH": f"{shims}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    processes.await_("containerd answers", lambda: _answers("version"), READY_SECONDS_MAX, PARTS[:1])
    load(images.pause())


def load(archive: Path) -> None:
    """Import an image archive for the pods."""
    run(["flock", STATE / "load.lock", *_ctr("images", "import", str(archive))], seconds=300)


def loaded() -> list[str]:
    """Return the names of the images that pods can have."""
    return run(_ctr("images", "list", "-q")).split()


def start(plane: ControlPlane) -> None:
    """Start the rest, and wait until the node is Ready and names resolve."""
    port, healthz, ready = _free_ports(ADDRESS, 3)
    _json(
        STATE / "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "port": port,
            "healthzBindAddress": ADDRESS,
            "healthzPort": healthz,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(PKI / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(_resolv()),
            "podLogsDir": str(STATE / "logs" / "pods"),
            "volumePluginDir": str(STATE / "volume-plugins"),
            "maxPods": PODS_MAX,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        },
    )
    processes.start(
        "kubelet",
        [
            build.path("kubelet"),
            f"--config={STATE / 'kubelet.json'}",
            f"--kubeconfig={plane.kubeconfig('system:node:striped', STATE / 'kubelet.conf')}",
            f"--root-dir={STATE / 'kubelet'}",
            f"--cert-dir={STATE / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        ],
    )
    _json(
        STATE / "kube-proxy.json",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "nftables": {"masqueradeAll": True},  # pods answer each other over the bridge, past the translation
            "conntrack": {"maxPerCore": 0},
            "clusterCIDR": PODS,
            "hostnameOverride": NAME,
            "bindAddress": ADDRESS,
            "healthzBindAddress": "",
            "metricsBindAddress": "",
            "clientConnection": {
                "kubeconfig": str(plane.kubeconfig("system:kube-proxy", STATE / "kube-proxy.conf")),
            },
        },
    )
    processes.start("kube-proxy", [build.path("kube-proxy"), f"--config={STATE / 'kube-proxy.json'}"])
    (STATE / "Corefile").write_text(f"""cluster.local:53 10.in-addr.arpa:53 {{
    bind {ADDRESS}
    errors
    ready {ADDRESS}:{ready}
    kubernetes cluster.local 10.in-addr.arpa {{
        kubeconfig {plane.kubeconfig("dns", STATE / "coredns.conf")} stripedjob
        ttl 2
    }}
}}
.:53 {{
    bind {ADDRESS}
    errors
    forward . /etc/resolv.conf
    cache 30
}}
""")
    processes.start("coredns", [build.path("coredns"), "-conf", STATE / "Corefile"])
    processes.await_("the node is ready", _is_ready, READY_SECONDS_MAX, PARTS)
    processes.await_("names resolve", lambda: _url_answers(f"http://{ADDRESS}:{ready}/ready"), READY_SECONDS_MAX, PARTS)


def _ctr(*words: str) -> list[str]:
    return [str(build.path("ctr")), "--address", str(SOCKET), "--namespace", "k8s.io", *words]


def _answers(*words: str) -> bool:
    return subprocess.run(_ctr(*words), capture_output=True, timeout=30, check=False).returncode == 0


def _is_ready() -> bool:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    command = [build.path("kubectl"), "--kubeconfig", KUBECONFIG, "get", "node", NAME, "-o", path]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout == "True"


def _url_answers(url: str) -> bool:
    done = subprocess.run(
        [build.path("kubectl"), "--server", url.rsplit("/", 1)[0], "get", "--raw", "/ready"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode == 0


def _resolv() -> Path:
    """Write a resolv.conf without the search domains of this machine."""
    file = STATE / "resolv.conf"
    file.write_text(f"nameserver {ADDRESS}\n")
    return file


def _json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1))
