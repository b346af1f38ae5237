"""The reference of the StripedJob is what the model says."""

from __future__ import annotations

from tests.pages import reference


def test_the_page_is_made_from_the_model() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run scripts/reference"
