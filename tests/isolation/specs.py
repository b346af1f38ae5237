"""The words in which specs are written: steps, scenes, and a list of specs that a test plays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import psycopg
from tests.isolation.calls import LOST
from tests.isolation.harness import Spec, Stage, Step, transaction
from tests.isolation.world import World

if TYPE_CHECKING:
    from stripedjob.pool.types import JobSettings

P = ParamSpec("P")
Method = Callable[Concatenate[World, psycopg.Connection, P], Any]
WORDS_MAX = 40


def do(method: Method[P], *args: P.args, **kwargs: P.kwargs) -> Step[World]:
    """Make a step of one of a world's methods."""
    words = " ".join([method.__name__, *map(str, args), *(f"{key}={value}" for key, value in kwargs.items())])
    name = words if len(words) <= WORDS_MAX else method.__name__
    return Step(name, lambda world, conn: method(world, conn, *args, **kwargs))


def alone(method: Method[P], *args: P.args, **kwargs: P.kwargs) -> list[Step[World]]:
    """Make a transaction of one step, open until a step of its own ends it."""
    return transaction(do(method, *args, **kwargs))


def execute(query: str) -> Step[World]:
    """Make a step of plain SQL."""
    return Step(query, lambda _, conn: conn.execute(query.encode()).statusmessage)


class Specs(list[Spec[World]]):
    """The specs of a test module. A scene that several have is made once in a database."""

    def __init__(self) -> None:
        super().__init__()
        self.scenes: dict[tuple[Stage, JobSettings, Callable[[World], None]], World] = {}

    def add(
        self,
        name: str,
        job: JobSettings,
        scene: Callable[[World], None],
        *,
        errors: frozenset[str] = frozenset({LOST}),
        prompt: str = "",
        **sessions: list[Step[World]],
    ) -> None:
        """Add one; `prompt` names sessions that never wait."""

        def world(stage: Stage) -> World:
            if (stage, job, scene) not in self.scenes:
                self.scenes[stage, job, scene] = World.of(stage, job, scene)
            return self.scenes[stage, job, scene].again()

        slug = re.sub(r"\W+", "-", name.replace("'s", "s"))  # so that -k takes it
        self.append(Spec(slug, world, sessions, errors=errors, prompt=frozenset(prompt.split())))
