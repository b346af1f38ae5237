"""Two versions of the package side by side: the one that was released, and what this tree may be next.

A next one has a migration, and routines that are other than this tree's: a new argument with a default, and new bodies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
(WHEEL,) = (ROOT / "tests/upgrade").glob("stripedjob-*.whl")
MIGRATION = """alter table @extschema@.worker add column note text;
alter table @extschema@.unit add column note text;
drop function @extschema@.claim(bigint, int, int, int, bigint, int);
"""
GUARD = "    if @extschema@.may_work(w) then\n"
# In the next one a claim says who makes it, and all routines are other by a comment.
CHANGES = {
    "pool/api/v1/worker.sql": (
        ("p_unshared int default 0\n)", "p_unshared int default 0, p_note text default null\n)"),
        (
            GUARD,
            "    update @extschema@.worker set note = p_note where id = p_worker;\n" + GUARD,  # noqa: S608 - of ours
        ),
    ),
    "pool/client/worker.py": (
        (
            'call = "claim(%s, %s, %s, %s, %s, %s)"',
            'call, values = "claim(%s, %s, %s, %s, %s, %s, %s)", [*values, "next"]',
        ),
    ),
}


@dataclass(frozen=True)
class Release:
    """A version of the package: `path` is what goes first in PYTHONPATH."""

    path: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process of this version."""
        return {**os.environ, "PYTHONPATH": str(self.path), "PYTHONSAFEPATH": "1"}

    def start(self, log: Path, *args: str) -> subprocess.Popen[str]:
        """Start Python with these arguments; what it says goes to the file."""
        with log.open("w") as out:
            return subprocess.Popen(
                [sys.executable, *args], env=self.env, stdout=subprocess.PIPE, stderr=out, text=True, cwd=log.parent
            )

    def run(self, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
        """Run `stripedjob` to its end."""
        command = [sys.executable, "-m", "stripedjob", *args]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, cwd=folder, timeout=100, check=False
        )


def released(folder: Path) -> Release:
    """Unpack the wheel of the release before; this environment has what it depends on."""
    with zipfile.ZipFile(WHEEL) as archive:
        archive.extractall(folder)
    return Release(folder)


def this_tree(folder: Path) -> Release:
    """Copy the package as it is here."""
    for package in ("worker/stripedjob", "operator/stripedjob_operator"):
        shutil.copytree(ROOT / package, folder / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    return Release(folder)


def next_one(folder: Path) -> Release:
    """Make what this tree may be next."""
    made = this_tree(folder)
    pool = folder / "stripedjob"
    for file, changes in CHANGES.items():
        text = (pool / file).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{file} is not as this expects it: {old}"
            text = text.replace(old, new)
        (pool / file).write_text(text)
    last = max(int(path.name[:4]) for path in (pool / "pool/schema").glob("*.sql"))
    (pool / f"pool/schema/{last + 1:04}_next.sql").write_text(MIGRATION)
    for path in (pool / "pool/lib").glob("*.sql"):
        text = path.read_text().replace("\nbegin\n", "\nbegin -- next\n")
        path.write_text(text.replace(" as $$\n    select", " as $$\n    -- next\n    select"))
    return made


def write_job(folder: Path, workers: int) -> str:
    """Write a StripedJob beside its handler; returns it as text."""
    shutil.copy(ROOT / "tests/support/job_handlers.py", folder)
    spec = {
        "scheduleLimit": workers,
        "handler": {"python": "job_handlers:watched", "transaction": True},
        "lock": {"backend": "Postgres", "leaseSeconds": 3},
        "batch": {"resources": 2},
    }
    text = yaml.safe_dump(
        {"apiVersion": "striped.dev/v1alpha1", "kind": "StripedJob", "metadata": {"name": "seed"}, "spec": spec}
    )
    (folder / "job.yaml").write_text(text)
    return text
