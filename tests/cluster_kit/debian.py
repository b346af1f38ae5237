"""Programs that come from Debian's packages, installed where they are missing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.cluster_kit.home import UnavailableError, run, say

if TYPE_CHECKING:
    from collections.abc import Iterable


def ensure(packages: Iterable[str]) -> None:
    """Install what is missing, through apt; raises UnavailableError where that cannot be done."""
    if not shutil.which("dpkg-query"):
        raise UnavailableError("this is no Debian system, and the node's programs come from Debian's packages")
    listed = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"]).splitlines()
    there = {name for name, status in (line.split(" ", 1) for line in listed if " " in line) if status == "installed"}
    missing = [package for package in packages if package not in there]
    if not missing:
        return
    if os.geteuid():
        raise UnavailableError(f"only root can install {' '.join(missing)}")
    say(f"installing {' '.join(missing)} through apt")
    run(["apt-get", "update", "-qq"], seconds=300)
    run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        seconds=900,
    )
