"""A real Prometheus and its promtool: those that are installed, or Debian's package, unpacked in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "stripedjob" / "prometheus"


def program(name: str) -> Path:
    """Return the path of `prometheus` or `promtool`; skips the test where neither is available, but never in CI."""
    if found := shutil.which(name):
        return Path(found)
    here = CACHE / "usr" / "bin" / name
    if not here.exists():
        _fetch()
    if not here.exists():
        assert "CI" not in os.environ, "Debian's package prometheus is not available"
        pytest.skip("Prometheus is not installed, and this system's packages have none")
    return here


def _fetch() -> None:
    if not shutil.which("apt-get"):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    for command in (["apt-get", "update", "-qq"], ["apt-get", "download", "-qq", "prometheus"]):
        subprocess.run(command, cwd=CACHE, check=False, capture_output=True, timeout=300)
    for package in CACHE.glob("prometheus_*.deb"):
        subprocess.run(["dpkg", "-x", package, CACHE], check=True)
