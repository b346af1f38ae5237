"""A real Chromium, Debian's own, that looks at a real page over a real pool."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from tests.support.pages import filled, page_of

from stripedjob.ui.app import Served
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page
    from tests.support.queues import Queue

ALL = Rights(actions=True, payloads=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; scripts/test installs it where it can."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed, and scripts/test can install it as root on Debian alone")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One for a module and no longer: until it is closed, no other event loop can run in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    """A filled pool. Playwright has an event loop in this thread, so that the pool's is in another."""
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        yield thread.submit(stack.enter_context, filled(queue_database)).result()
        thread.submit(stack.close).result()


@pytest.fixture
def base(pool: Queue) -> Iterator[str]:
    with page_of(Served(pool.url, rights=ALL)) as base:
        yield base


@pytest.fixture
def tab(browser: Browser, base: str) -> Iterator[Tab]:
    with Tab(browser, base) as tab:
        yield tab


class Tab:
    """A tab of the browser. `wrong`: what its console has said is wrong, and what it asked of others."""

    def __init__(self, browser: Browser, base: str, **options: Any) -> None:
        self.base = base
        self.wrong: list[str] = []
        self._context = browser.new_context(base_url=base, **options)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.base):
            self.wrong.append(request.url)


def violations(page: Page) -> list[str]:
    """What axe has against the page as it is now."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]
