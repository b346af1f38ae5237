"""Stripe-locked work: many workers drain a pool in Postgres, and no two of them ever work on one resource at once.

For handlers: Unit, Retry, Hold, Dead. For applications: NewUnit, enqueue, enqueue_many, and for those of asyncio
aenqueue, aenqueue_many (imported when first asked for, so that a handler's process does not load a database driver).
"""

from typing import TYPE_CHECKING, Any

from stripedjob._version import __version__
from stripedjob.unit import Dead, Hold, Retry, Unit

if TYPE_CHECKING:
    from stripedjob.pool.client.enqueue import NewUnit, aenqueue, aenqueue_many, enqueue, enqueue_many

__all__ = ["Dead", "Hold", "Retry", "Unit", "__version__"]
__all__ += ["NewUnit", "aenqueue", "aenqueue_many", "enqueue", "enqueue_many"]


def __getattr__(name: str) -> Any:
    if name in ("NewUnit", "aenqueue", "aenqueue_many", "enqueue", "enqueue_many"):
        from stripedjob.pool.client import enqueue as module  # noqa: PLC0415 - see the module's docstring

        return getattr(module, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
