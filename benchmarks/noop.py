"""The handler that does nothing."""

from typing import Any


def act(_unit: Any) -> None:
    """Do nothing."""
