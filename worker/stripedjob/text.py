"""Pure: text from outside, such as a resource's name or a handler's reason, made safe to print on a terminal."""

import re
import textwrap
from typing import Any

QUOTED_CODE = " " * 4  # how the lines of a traceback begin


def printable(text: str) -> str:
    r"""Write control characters, line ends and the like as escapes such as \n and \x1b: nobody forges a line."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def all_printable(value: Any) -> Any:
    """Do so with every text in what came as JSON."""
    match value:
        case str():
            return printable(value)
        case list():
            return [all_printable(one) for one in value]
        case dict():
            return {name: all_printable(one) for name, one in value.items()}
    return value


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 unit, 2,000 units."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def folded(text: str, columns: int, indent: int = 2) -> str:
    """Break lines that are longer than the terminal between words; what goes on is indented by so much more.

    A path, a command in backticks and a line of a traceback stay whole, to be copied. Where `columns` is 0, all does.
    """
    if not columns:
        return text
    return "".join(_folded(line, columns, indent) for line in text.splitlines(keepends=True))


def duration(seconds: float) -> str:
    """Return a length of time as 0:07, 4:41 or 1:02:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rated(per_second: float) -> str:
    """Return a rate with as many digits as say something, by the minute where it is slow."""
    if per_second >= 10:  # noqa: PLR2004 - two digits are enough
        return f"{per_second:,.0f}/s"
    if per_second >= 1 or per_second == 0:
        return f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


def _folded(line: str, columns: int, indent: int) -> str:
    words = line.rstrip("\n")
    if len(words) <= columns or words.startswith(QUOTED_CODE):
        return line
    own = len(words) - len(words.lstrip())
    parts = textwrap.wrap(
        re.sub("`[^`]*`", lambda found: found[0].replace(" ", "\0"), words),
        max(columns, own + indent + 1),
        subsequent_indent=" " * (own + indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(parts).replace("\0", " ") + line[len(words) :]


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
