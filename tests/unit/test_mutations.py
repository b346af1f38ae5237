"""Every mutation still fits the code."""

from __future__ import annotations

import pytest
from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import PACKAGE, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_what_a_mutation_replaces_is_there_once(mutation: Mutation) -> None:
    assert mutation.mutated(PACKAGE)
