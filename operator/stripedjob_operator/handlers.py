"""kopf's part: its watches fill `observed`, and every change is a wish for a reconcile. No handler keeps anything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from stripedjob.spec.model import GROUP, PLURAL, VERSION
from stripedjob_operator.observed import OWN, Key, Observed, Raw, key_of, owner_of

STREAM_SECONDS = 25  # a watch is renewed so often, so that one that has stalled is noticed soon
DEPLOYMENTS = ("apps", "v1", "deployments")
PODS = ("", "v1", "pods")
OBJECTS_AT_ONCE = 25  # of a list; they are expensive as they come, and what is kept of them is little
IDLE_SECONDS = 0.1  # for so long kopf keeps an object at hand after its last event
END_SECONDS_MAX = 10.0  # then kopf ends the process
INACTIVE_SECONDS = 40.0  # a watch that says nothing for longer, not even goodbye, has stalled
Seen = Callable[[Key, Raw], bool]
Gone = Callable[[Key, Raw], None]


def register(registry: kopf.OperatorRegistry, observed: Observed, wish: Callable[[Key], None]) -> None:
    """Add the handlers."""

    def handler(key_of_raw: Callable[[Raw], Key | None], seen: Seen, gone: Gone) -> Callable[..., Awaitable[None]]:
        async def handle(*, event: kopf.RawEvent, **_: Any) -> None:
            raw: Raw = {**event["object"]}
            key = key_of_raw(raw)
            if key is None:
                return
            if event["type"] == "DELETED":
                gone(key, raw)
                wish(key)
            elif seen(key, raw):
                wish(key)

        return handle

    def on(kind: tuple[str, str, str], handle: Any) -> None:
        kopf.on.event(*kind, registry=registry, id=kind[2])(handle)

    on((GROUP, VERSION, PLURAL), handler(key_of, lambda _, raw: observed.job_seen(raw), observed.job_gone))
    on(DEPLOYMENTS, handler(owner_of, observed.deployment_seen, observed.deployment_gone))
    on(PODS, handler(owner_of, observed.pod_seen, observed.pod_gone))


class _NoDiffs(kopf.DiffBaseStorage):
    """No diff is asked for: kopf would copy every object for one at every event."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: it watches, and writes nothing."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.persistence.diffbase_storage = _NoDiffs()
    made.scanning.disabled = True
    made.watching.server_timeout = STREAM_SECONDS
    made.watching.inactivity_timeout = INACTIVE_SECONDS
    made.watching.chunk_size = OBJECTS_AT_ONCE
    made.queueing.idle_timeout = IDLE_SECONDS
    made.networking.request_timeout = 30
    made.process.ultimate_exiting_timeout = END_SECONDS_MAX
    selector = ",".join(f"{key}={value}" for key, value in OWN.items())
    made.watching.label_selectors[DEPLOYMENTS] = selector
    made.watching.label_selectors[PODS] = selector
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return made


async def watch(
    observed: Observed, wish: Callable[[Key], None], namespaces: tuple[str, ...], begun: Callable[[], None]
) -> None:
    """Watch until cancelled; raises where the API server refuses the watches for good.

    `begun` runs when kopf has taken over the signals. Invariant: who cancels this has ended all tasks begun since, for
    which kopf would wait.
    """
    registry = kopf.get_default_registry()
    register(registry, observed, wish)
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    begun()
    await kopf.run_tasks(tasks, ignored=before)
