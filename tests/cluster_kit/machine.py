"""What the node changes on this machine outside its own folder, and how it is put back as it was.

Written down before anything is changed, so that `down` can put it back after an `up` that was killed at any point.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster_kit.home import STATE, ClusterError, UnavailableError, run

BRIDGE = "striped0"
ADDRESS = "10.244.0.1"  # of the node: the bridge's, which pods have as their gateway
PODS = "10.244.0.0/24"
CGROUP = "stripedjob"
CGROUPS = Path("/sys/fs/cgroup")
# All pods together count as one for the kernel, as each session of this machine does: beside tests that run here they
# would get so little that leases run out. Sixteen times as much, in versions 1 and 2.
WEIGHTS = {"cpu.shares": 16 * 1024, "cpu.weight": 16 * 100}
CHANGES = STATE / "changes.json"
SYSCTLS = (  # what the kubelet and the bridge's plugin set
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
)
FOLDERS = (  # where the parts keep what no option moves; made by them where they were missing
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
)
TABLES = ("ip kube-proxy", "ip6 kube-proxy")
SETTLE_SECONDS_MAX = 8  # network namespaces are taken apart in the background


@dataclass
class Changes:
    """As it was before: values of SYSCTLS, and those of FOLDERS that were missing."""

    sysctls: dict[str, str] = field(default_factory=dict)
    missing_folders: list[str] = field(default_factory=list)


def why_not() -> str | None:
    """Say what stands in the way of a node on this machine."""
    if os.geteuid():
        return "a node needs root"
    if not CGROUPS.joinpath("cgroup.controllers").exists() and not CGROUPS.joinpath("memory").exists():
        return "no cgroup hierarchy is mounted on /sys/fs/cgroup"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlayfs"
    return None


def prepare() -> None:
    """Write down how the machine is, then make the bridge and the cgroup."""
    if any(table in tables() for table in TABLES):
        raise UnavailableError("a kube-proxy already has its nft tables on this machine")
    if ADDRESS in run(["ip", "-o", "address"]):
        raise UnavailableError(f"{ADDRESS} is already an address of this machine")
    changes = Changes(
        {name: _sysctl(name).read_text() for name in SYSCTLS if _sysctl(name).exists()},
        [folder for folder in FOLDERS if not Path(folder).exists()],
    )
    CHANGES.write_text(json.dumps(asdict(changes)))
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    _sysctl("net/ipv4/ip_forward").write_text("1")
    for cgroup in cgroups():
        cgroup.mkdir(exist_ok=True)
        for inherited in ("cpuset.cpus", "cpuset.mems"):
            if (cgroup / inherited).exists() and not (CGROUPS / "cgroup.controllers").exists():
                (cgroup / inherited).write_text((cgroup.parent / inherited).read_text())
        for name, weight in WEIGHTS.items():
            if (cgroup / name).exists():
                (cgroup / name).write_text(str(weight))


def contained() -> list[int]:
    """Return the processes in the node's cgroups: everything that runs in pods."""
    pids: set[int] = set()
    for cgroup in cgroups():
        for file in cgroup.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in file.read_text().split())
    return sorted(pids)


def restore() -> None:
    """Put everything back. Every step may have been done before."""
    unmount(f"{STATE}/", "/run/netns/cni-")
    if not CHANGES.exists():
        return
    changes = Changes(**json.loads(CHANGES.read_text()))
    for table in set(TABLES) & set(tables()):
        run(["nft", "delete", "table", *table.split()])
    _remove_links()
    for cgroup in cgroups():
        _remove_cgroup(cgroup)
    for name, value in changes.sysctls.items():
        if _sysctl(name).read_text() != value:
            _sysctl(name).write_text(value)
    for folder in changes.missing_folders:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_links() -> None:
    end = time.monotonic() + SETTLE_SECONDS_MAX
    while (ports := _ports()) and time.monotonic() < end:
        time.sleep(0.1)
    for port in ports:
        run(["ip", "link", "delete", port])
    if Path("/sys/class/net", BRIDGE).exists():
        run(["ip", "link", "delete", BRIDGE])


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", name)


def tables() -> list[str]:
    if os.geteuid() or not shutil.which("nft"):
        return []
    return [line.removeprefix("table ") for line in run(["nft", "list", "tables"]).splitlines()]


def _ports() -> list[str]:
    """Return the links that are on the bridge: one for each pod."""
    folder = Path("/sys/class/net", BRIDGE, "brif")
    return sorted(port.name for port in folder.iterdir()) if folder.exists() else []


def cgroups() -> list[Path]:
    """Return the node's cgroup in each hierarchy: many in version 1, one in version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / CGROUP]
    real = {hierarchy.resolve() for hierarchy in CGROUPS.iterdir() if hierarchy.is_dir()}
    return sorted(hierarchy / CGROUP for hierarchy in real)


def _remove_cgroup(cgroup: Path) -> None:
    if not cgroup.exists():
        return
    end = time.monotonic() + SETTLE_SECONDS_MAX
    for folder in sorted((*(one for one in cgroup.rglob("*") if one.is_dir()), cgroup), reverse=True):
        while folder.exists():
            try:
                folder.rmdir()
            except OSError as error:  # a process in it is not quite gone
                if time.monotonic() > end:
                    raise ClusterError(f"{folder} cannot be removed: {error}") from None
                time.sleep(0.05)


def unmount(*prefixes: str) -> None:
    """Unmount everything whose path begins so, the newest first."""
    while mounts := [point for point in _mounts() if point.startswith(prefixes)]:
        run(["umount", "--lazy", *reversed(mounts)])


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]
