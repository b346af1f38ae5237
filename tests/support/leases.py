"""Leases made by hand, and a real executor to run them."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from stripedjob.pool.types import Lease
from stripedjob.runtime.clock import now
from stripedjob.runtime.executor.supervisor import ExecutorSupervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripedjob.runtime.executor.wire import Config
    from stripedjob.runtime.outcome import Fault, Outcome

PATIENCE_SECONDS = int(os.environ.get("STRIPEDJOB_TEST_PATIENCE", "90"))


def lease(name: str, *payloads: Any) -> Lease:
    ids = tuple(range(1, len(payloads) + 1))
    zeros = (0,) * len(ids)
    texts = tuple(json.dumps(payload) for payload in payloads)
    return Lease(name, 1, suspect=False, more=False, ids=ids, attempts=zeros, crashes=zeros, payloads=texts)


def run(leases: Sequence[Lease], config: Config) -> dict[int, Outcome]:
    """Run the leases and return their final outcomes, with the faults of all outcomes."""

    async def scene() -> dict[int, Outcome]:
        ended: dict[int, Outcome] = {}
        faults: dict[int, tuple[Fault, ...]] = {}
        async with ExecutorSupervisor(config) as executor, asyncio.timeout(PATIENCE_SECONDS):
            executor.shared_state.deadline = now() + 3600
            executor.submit(enumerate(leases))
            while len(ended) < len(leases):
                for outcome in await executor.outcomes():
                    faults[outcome.key] = faults.get(outcome.key, ()) + outcome.faults
                    if outcome.final:
                        assert outcome.key not in ended
                        ended[outcome.key] = outcome
        return {key: outcome._replace(faults=faults[key]) for key, outcome in ended.items()}

    return asyncio.run(scene())
