"""Whoever is of the release before goes on while the schema becomes a later one, and while workers of that join.

In any order: workers first are refused with words, and begin after the migration.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.runs import INVERSIONS, OVERLAPS, await_, children
from tests.upgrade.releases import ROOT, Release, next_one, released, this_tree, write_job

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PATIENCE_SECONDS = 120
OLD_WORKERS, NEW_WORKERS = 3, 2
EFFECT = "create table effect (unit bigint, resource text, fence bigint, began timestamptz, ended timestamptz)"


class Site:
    """A job in a pool of the one release, and processes of either; what is left of them is killed at the end."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self.folder, self.url, self._stack = folder, url, stack
        self.spec = write_job(folder, OLD_WORKERS + NEW_WORKERS)
        self.started = 0
        self.sql(EFFECT)

    def sql(self, query: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def migrate(self, release: Release) -> None:
        done = release.run(self.folder, "migrate", "job.yaml", "--postgres", self.url)
        assert done.returncode == 0, done.stderr

    def worker(self, release: Release) -> subprocess.Popen[str]:
        values = ["--spec", self.spec, "--postgres", self.url, "--path", str(self.folder)]
        return self._start(release, "-m", "stripedjob", "worker", *values)

    def client(self, release: Release, what: str) -> subprocess.Popen[str]:
        return self._start(release, str(ROOT / "tests/upgrade/client.py"), what, self.url)

    def _start(self, release: Release, *args: str) -> subprocess.Popen[str]:
        self.started += 1
        process = release.start(self.folder / f"{self.started}.log", *args)
        self._stack.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))

    def effects(self) -> int:
        return int(self.sql("select count(*) from effect")[0][0])

    def await_effects(self, more: int) -> None:
        end = self.effects() + more
        await_("work goes on", lambda: self.effects() >= end, PATIENCE_SECONDS)

    def told_to_end(self, processes: list[subprocess.Popen[str]]) -> list[str]:
        """Have all of them end, in good order; returns what they say."""
        for process in processes:
            process.terminate()
        found = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), self.logs()
        return found


@pytest.mark.parametrize("to", [this_tree, next_one], ids=["this tree", "a next one"])
@pytest.mark.parametrize("first", ["migrate", "workers"])
def test_the_release_before_goes_on(fresh_database: str, tmp_path: Path, first: str, to: Any) -> None:
    old, new = released(tmp_path / "old"), to(tmp_path / "new")
    home = tmp_path / "home"
    home.mkdir()
    with ExitStack() as stack:
        site = Site(home, fresh_database, stack)
        site.migrate(old)
        workers = [site.worker(old) for _ in range(OLD_WORKERS)]
        enqueuing, operating = site.client(old, "enqueue"), site.client(old, "operate")
        site.await_effects(30)
        if first == "workers" and to is next_one:
            early = site.worker(new)
            assert early.wait(PATIENCE_SECONDS) not in (0, None)
            assert "stripedjob migrate" in site.logs()
        victim = workers.pop()
        if first == "migrate":
            site.migrate(new)
            kill(victim)
        else:
            kill(victim)
            site.migrate(new)
        site.await_effects(30)
        workers += [site.worker(new) for _ in range(NEW_WORKERS)]
        await_("all are there", lambda: len(site.sql("select 1 from striped.worker")) >= len(workers), PATIENCE_SECONDS)
        site.await_effects(60)
        put, ticks = map(int, site.told_to_end([enqueuing, operating]))
        empty = "select striped.is_empty(id) from striped.job where pg_typeof(striped.upkeep(id)) is not null"
        await_("all is done", lambda: site.sql(empty) == [(True,)], PATIENCE_SECONDS)
        if to is next_one:
            notes = "select note, count(*) from striped.worker group by 1 order by 1"
            both = [("next", NEW_WORKERS), (None, OLD_WORKERS - 1)]
            await_("the killed one is forgotten", lambda: site.sql(notes) == both, PATIENCE_SECONDS)
        assert all(process.poll() is None for process in workers), site.logs()
        site.told_to_end(workers)
        assert ticks > 0
        assert site.sql("select count(*), count(distinct unit) from effect") == [(put, put)]
        assert (site.sql(OVERLAPS), site.sql(INVERSIONS)) == ([(0,)], [(0,)])
        ((done, dead, crashed),) = site.sql("select total_done, total_dead, total_crashed from striped.job_status")
        assert (done, dead) == (put, 0)
        assert crashed <= 1  # the unit of the worker that was killed


def kill(process: subprocess.Popen[str]) -> None:
    for pid in [*children(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
