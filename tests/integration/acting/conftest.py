"""A pool with something of everything, and a page on which ann may act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.pages import Page, filled, page_of

from stripedjob.ui.app import Served
from stripedjob.ui.security import Rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.queues import Queue


@pytest.fixture
def pool(queue_database: str) -> Iterator[Queue]:
    with filled(queue_database) as made:
        yield made


@pytest.fixture
def page(pool: Queue) -> Iterator[Page]:
    with page_of(Served(pool.url, rights=Rights(actions=True), who="ann")) as base:
        yield Page(base)
