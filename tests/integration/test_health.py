"""What a worker shows of itself over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from stripedjob.pool.errors import PoolUnreachableError
from stripedjob.pool.types import Batch, Lease, Settlement, Tally, Then
from stripedjob.runtime.health import serving
from stripedjob.runtime.observe import STALLED_SECONDS, Observer


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.acceptance("A49")
def test_liveness_readiness_and_metrics() -> None:
    now = [0.0]
    observer = Observer("default/sync", clock=lambda: now[0])
    lease = Lease("a", 1, suspect=False, more=False, ids=(1, 2), attempts=(0, 0), crashes=(0, 0), payloads=("1", "2"))
    with serving(observer, 0, "127.0.0.1") as port:
        assert get(port, "/readyz") == (503, "not connected to Postgres yet\n")
        observer.connected(1)
        assert get(port, "/readyz") == (200, "ok\n")
        observer.disconnected(PoolUnreachableError("it is away"))
        assert get(port, "/readyz") == (503, "it is away\n")
        observer.settled(Batch(1, 1, (Settlement(lease, Then.IDLE, (1, 2)),), Tally(claimed=1, lock_tries=1)), [])
        observer.settled(Batch(1, 2, (Settlement(lease, Then.IDLE, (1, 2)),), Tally()), ["a"])
        metrics = get(port, "/metrics")[1]
        assert 'stripedjob_units_total{job="default/sync",outcome="done"} 2.0' in metrics
        assert 'stripedjob_stale_total{job="default/sync"} 1.0' in metrics
        assert get(port, "/livez")[0] == 200
        now[0] = STALLED_SECONDS + 1
        assert get(port, "/livez") == (503, "the main loop has stalled\n")
        assert get(port, "/nothing")[0] == 404
