"""Makes the pictures of docs/ui.md, with scripts/screenshots: a pool of listings, some of which are in trouble."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright
from tests.support.engines import new_database
from tests.support.pages import page_of
from tests.support.queues import FIFO, queue

from stripedjob.local.engines import embedded_engine
from stripedjob.pool.types import Failure, Fate, JobSettings, News, Then
from stripedjob.times import Histogram
from stripedjob.ui.app import Served
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.support.queues import Queue

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = {"width": 1080, "height": 620}
JOB = replace(FIFO, job_type="sync", schedule_limit=4)
REASONS = {
    "listing-31": (Fate.DEAD, Then.IDLE, None, "ValueError: price is negative (listings.py:41)"),
    "listing-32": (Fate.DEAD, Then.IDLE, None, "ValueError: price is negative (listings.py:41)"),
    "listing-33": (Fate.DEAD, Then.IDLE, None, "KeyError: 'currency' (listings.py:38)"),
    "listing-34": (Fate.HELD, Then.WAIT, float("inf"), "the shop asks for a person"),
    "listing-35": (Fate.READY, Then.WAIT, 240.0, "HTTP 503 from the shop's API"),
}
PICTURES = {
    "jobs": ("/", "light"),
    "job": ("/jobs/1", "light"),
    "resource": ("/jobs/1/resource?name={busy}", "dark"),
    "dead": ("/jobs/1/dead", "light"),
}


def fill(pool: Queue) -> None:
    """Put work in, and let two workers come to different ends with it."""
    for number in range(40):
        pool.put(f"listing-{number}", payload='{"price": 100}')
        pool.put(f"listing-{number}", payload='{"price": 101}')
    first, second, last = (pool.worker(name) for name in ("worker-7f9c", "worker-b21d", "worker-04aa"))
    for worker in (first, second):
        for lease in pool.take(worker, 8):
            pool.end(worker, lease)
    for lease in pool.take_all(last).values():
        if lease.resource in REASONS:
            to, then, wait, reason = REASONS[lease.resource]
            failed = Failure(lease.ids[0], to, 1, 0, reason)
            pool.end(last, lease, then=then, done=(), failed=(failed,), wait_seconds=wait)
        else:
            pool.end(last, lease, then=Then.READY, done=())
    waits, runs = Histogram(), Histogram()
    for number in range(26):
        waits.add(0.3 * number)
        runs.add(0.02 + 0.004 * number)
    pool.runner.run(pool.pool.note_times(pool.job_id, News(waits.counts, waits.seconds, runs.counts, runs.seconds)))
    pool.take(first, 3)
    pool.take(second, 2)
    for name in ("invoices", "thumbnails"):
        pool.runner.run(pool.pool.apply_job(JobSettings("default", name)))


def take(browser: Browser, base: str, busy: str) -> None:
    """Take all pictures."""
    for name, (path, scheme) in PICTURES.items():
        context = browser.new_context(base_url=base, color_scheme=scheme, viewport=SIZE)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(path.format(busy=busy))
        page.wait_for_timeout(2_500)  # until there is a rate
        page.screenshot(path=IMAGES / f"ui-{name}.png")
        context.close()


def main() -> None:
    """Make the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with embedded_engine("postgres") as server, new_database(server) as url, queue(url, JOB) as pool:
        fill(pool)
        busy = pool.one("select resource from striped.stripe where state = 'leased' order by fence limit 1")
        with page_of(Served(url, rights=Rights(actions=True, payloads=True))) as base, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser, base, busy)
            browser.close()


if __name__ == "__main__":
    main()
