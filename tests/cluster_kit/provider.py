"""The one interface of both providers, and which of them this machine takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from tests.cluster_kit.home import RECORD, UnavailableError

Level = Literal["control-plane", "node"]
LEVELS: tuple[Level, ...] = ("control-plane", "node")  # each has what those before it have


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up. `kubeconfig`: of an administrator."""

    provider: str
    level: Level
    kubeconfig: Path
    kubectl: Path
    helm: Path

    def record(self) -> None:
        """Note that it is up."""
        words = {name: str(value) for name, value in asdict(self).items()}
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(words))

    @staticmethod
    def recorded() -> Cluster | None:
        """Return the one that was noted as up."""
        try:
            found = json.loads(RECORD.read_text())
        except FileNotFoundError:
            return None
        paths = {name: Path(found[name]) for name in ("kubeconfig", "kubectl", "helm")}
        return Cluster(found["provider"], found["level"], **paths)


class Provider(Protocol):
    """Makes a cluster. Everything may be called again, and after a call that was killed."""

    name: str

    def why_not(self, level: Level) -> str | None:
        """Say why this machine cannot have it; None where it can."""

    def up(self, level: Level) -> Cluster:
        """Bring it up, Ready."""

    def down(self) -> None:
        """Leave nothing of it but caches."""

    def parts(self) -> dict[str, str]:
        """Return each part that is there, and how it is."""

    def images(self, *, load: bool) -> list[str]:
        """Make the images; `load` them into the cluster that is up. Returns their names."""


def choose(providers: list[Provider], name: str | None, level: Level | None) -> tuple[Provider, Level]:
    """Take the first provider that can have the level, or the highest level there is."""
    wanted = [provider for provider in providers if name in {None, provider.name}]
    reasons = []
    for one in (level,) if level else reversed(LEVELS):
        for provider in wanted:
            reason = provider.why_not(one)
            if reason is None:
                return provider, one
            reasons.append(f"{provider.name} at level {one}: {reason}")
    raise UnavailableError("no cluster is possible here\n  " + "\n  ".join(reasons))
