"""Each mutation is found by the test that it names, which passes where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import copied, judged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mutations.mutation import Mutation


def test_without_a_mutation_the_tests_pass(tmp_path: Path, postgres_url: str) -> None:
    """As they do among all others; here in a copy, one of each tier."""
    tests = {one.test.split("/")[1]: one.test for one in MUTATIONS if "[" in one.test}
    verdict = judged(list(tests.values()), copied(tmp_path), postgres_url)
    assert verdict.code == 0, verdict.output


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_it_is_found(mutation: Mutation, tmp_path: Path, postgres_url: str) -> None:
    package = copied(tmp_path)
    mutation.apply(package)
    verdict = judged([mutation.test], package, postgres_url)
    assert verdict.is_caught, verdict.output


def test_the_copy_is_what_is_tested(tmp_path: Path, postgres_url: str) -> None:
    package = copied(tmp_path)
    (package / "stripedjob" / "pool" / "client" / "worker.py").write_text("raise ImportError")
    assert judged([MUTATIONS[0].test], package, postgres_url).code != 0
