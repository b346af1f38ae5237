"""The CRD on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from tests.cluster_kit.home import ROOT

if TYPE_CHECKING:
    from tests.cluster_kit.fixtures import Program

CRD = ROOT / "deploy" / "crds" / "stripedjobs.yaml"


def test_the_crd_is_accepted_and_the_examples_are(kubectl: Program) -> None:
    kubectl("apply", "--server-side", "-f", CRD)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRD)
    for example in ("listings", "seed"):
        job = yaml.safe_load((ROOT / "examples" / example / "stripedjob.yaml").read_text())
        kubectl.apply(job)
        shown = kubectl("get", "sj", job["metadata"]["name"])
        assert shown.split()[:4] == ["NAME", "TYPE", "STRATEGY", "LOCK"]
