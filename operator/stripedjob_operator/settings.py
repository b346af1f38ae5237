"""What the operator is told at its start."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """`namespaces`: empty for all. `priority_classes`: (least importance, PriorityClass), the highest first."""

    namespaces: tuple[str, ...]
    worker_image: str
    identity: str
    lease_namespace: str
    lease_name: str
    port: int
    priority_classes: tuple[tuple[int, str], ...] = ()
