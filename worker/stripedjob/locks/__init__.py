"""Lock backends: what admits a worker to a resource, in Redis or in Postgres, behind one small protocol.

Called by the runtime, once a batch before the work and once after it, and by its heartbeat. The lock is the
quick admission and is visible to outside parties; the judge is Postgres, by lease and fence. docs/locks.md
gives the formats with which an application takes the same lock to keep workers off a resource.
"""

from stripedjob.locks.backend import Held, LockBackend, LockSettings
from stripedjob.locks.choose import open_lock
from stripedjob.locks.errors import LockConfigError, LockError, LockUnavailable

__all__ = ["Held", "LockBackend", "LockConfigError", "LockError", "LockSettings", "LockUnavailable", "open_lock"]
