"""Which kind of fault comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Container, Iterable


class Bag:
    """The kinds that are still to come, before every kind comes again: over several worlds, all come equally often."""

    def __init__(self, kinds: Iterable[str], rng: random.Random) -> None:
        """Take all kinds."""
        self._kinds, self._dice, self._left = list(kinds), rng, list[str]()

    def leave_out(self, kinds: Container[str]) -> None:
        """Have these come no more."""
        self._kinds = [kind for kind in self._kinds if kind not in kinds]
        self._left = [kind for kind in self._left if kind not in kinds]

    def next(self, is_possible: Callable[[str], bool]) -> str | None:
        """Return the next one that is possible now; it is to come until it is taken out."""
        if not self._left:
            self._left = self._dice.sample(self._kinds, len(self._kinds))
        return next(filter(is_possible, self._left), None)

    def take_out(self, kind: str) -> None:
        """Have this one come again when all have come."""
        self._left.remove(kind)
