"""docs/operator.md knows every reason and every metric."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from stripedjob_operator.databases import Databases
from stripedjob_operator.metrics import JobMetrics, OperatorMetrics
from stripedjob_operator.observed import WAITING_PROBLEMS, Observed
from stripedjob_operator.queue import WorkQueue

NO_DATABASES = Databases(lambda _: None)
ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "operator.md").read_text()
POD_REASONS = WAITING_PROBLEMS | {"Unschedulable"}  # Kubernetes' own; the page names some of them


def test_every_reason_is_explained() -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / "operator" / "stripedjob_operator").glob("*.py"))
    reasons = set(re.findall(r'Problem\(\s*"([A-Z]\w+)"', sources)) | set(re.findall(r'return "([A-Z]\w+)"', sources))
    assert {"PoolUnreachable", "SecretNotFound", "Idle", "LockPending"} <= reasons
    reasons -= {"Unknown", *POD_REASONS}
    assert not [reason for reason in sorted(reasons) if f"`{reason}`" not in DOCS]


def test_every_metric_is_explained() -> None:
    registry = CollectorRegistry()
    OperatorMetrics(registry, WorkQueue(), Observed())
    names = {metric.name for metric in registry.collect()} | {
        one.name for one in JobMetrics(Observed(), NO_DATABASES).collect()
    }
    assert len(names) == 20
    assert not [name for name in sorted(names) if name not in DOCS]
