from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from stripedjob_operator.__main__ import _classes, main

CONTEXT = click.Context(main)
OPTION = next(one for one in main.params if one.name == "priority_classes")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("", ()),
        ("0=normal", ((0, "normal"),)),
        ("0=normal, 50=high,-10=low.er", ((50, "high"), (0, "normal"), (-10, "low.er"))),
    ],
)
def test_priority_classes_with_the_highest_first(text: str, classes: tuple[tuple[int, str], ...]) -> None:
    assert _classes(CONTEXT, OPTION, text) == classes


@pytest.mark.parametrize("text", ["high", "high=50", "50=", "50=High Up", "5.0=a"])
def test_priority_classes_that_are_none(text: str) -> None:
    done = CliRunner().invoke(main, ["--priority-classes", text])
    assert done.exit_code == 2
    assert "give importance=PriorityClass, such as 50=high,0=normal" in done.output
