"""The package as users have it: its wheel, built from this tree, apart from the source."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache" / "stripedjob"


def unpacked(folder: Path) -> Path:
    """Build the wheel and unpack it; returns what goes first in PYTHONPATH."""
    uv = shutil.which("uv") or str(next(iter(sorted(CACHE.glob("uv-*/bin/uv"), reverse=True))))
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    return folder / "package"
