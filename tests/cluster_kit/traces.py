"""What a cluster might leave on this machine. Compared before and after by the tests and by `scripts/cluster soak`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster_kit import machine, processes
from tests.cluster_kit.home import STATE

if TYPE_CHECKING:
    from tests.cluster_kit.provider import Level


def traces(level: Level = "node") -> dict[str, list[str]]:
    """Return what there is now; processes are looked for by the kit's own mark.

    A control plane has processes and a folder of its own, and may be beside a node that is somebody else's.
    """
    own = {"process": sorted(processes.running()), "folder": [str(STATE)] * STATE.exists()}
    if level == "control-plane":
        return own
    own["folder"] += [folder for folder in machine.FOLDERS if Path(folder).exists()]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return own | {
        "mount": sorted(mounts),
        "link": sorted(link.name for link in Path("/sys/class/net").iterdir()),
        "nft table": sorted(machine.tables()),
        "cgroup": sorted(str(one) for one in machine.cgroups() if one.exists()),
        "sysctl": [f"{name} {Path('/proc/sys', name).read_text().strip()}" for name in machine.SYSCTLS],
    }


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Say in words what has come and what has gone."""
    words = []
    for kind, old in before.items():
        words += [f"{kind} {one} is left" for one in set(after[kind]) - set(old)]
        words += [f"{kind} {one} is gone" for one in set(old) - set(after[kind])]
    return sorted(words)
