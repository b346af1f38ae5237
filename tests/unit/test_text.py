"""Text for a terminal: lines break between words, and what is to be copied stays whole."""

from __future__ import annotations

from stripedjob.text import folded

LONG = "listing-7 has nothing to do: all its units are done, or it never had any under exactly this name."


def test_what_fits_stays_as_it_is() -> None:
    for text in ("", "one line", "two\nlines", "ends\n", LONG):
        assert folded(text, 100) == text


def test_lines_break_between_words_and_go_on_indented() -> None:
    assert folded(LONG, 46).splitlines() == [
        "listing-7 has nothing to do: all its units are",
        "  done, or it never had any under exactly this",
        "  name.",
    ]
    assert folded(f"  {LONG}", 80).splitlines()[1].startswith("    ")
    assert folded(LONG, 46, indent=11).splitlines()[1].startswith(" " * 11 + "done")


def test_what_is_to_be_copied_stays_whole() -> None:
    command = "`stripedjob migrate /a/folder/of/mine/job.yaml`"
    assert command in folded(f"there is no pool in schema striped of this database: {command} makes it", 50)
    path = "/a/folder/" + "with-a-long-name/" * 10
    assert path in folded(f"there is no {path} here", 46)
    code = '        raise ValueError(f"a price of {price}, which is below the bound of a price")'
    assert folded(code, 46) == code  # of a traceback


def test_a_terminal_of_no_width_breaks_nothing() -> None:
    assert folded(LONG, 0) == LONG
    assert folded(f"{'x' * 11} {LONG}", 5, indent=11)
