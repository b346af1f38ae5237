"""Commands load without looking for garbage, and run with it."""

from __future__ import annotations

import gc

import click
import pytest

from stripedjob import cli


@pytest.mark.parametrize("is_on", [True, False])
def test_whatever_was_before_a_command_runs_with_the_garbage_collector(*, is_on: bool) -> None:
    """Frozen is what was there only where it was off: who calls commands from Python freezes nothing each time."""
    frozen = gc.get_freeze_count()
    if not is_on:
        gc.disable()
    try:
        assert cli.cli.get_command(click.Context(cli.cli), "validate") is not None
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) == (not is_on)
    finally:
        gc.enable()
        gc.unfreeze()
