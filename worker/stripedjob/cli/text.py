"""Pure: text from outside, such as a resource's name or a handler's reason, made safe to print on a terminal."""

from typing import Any


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


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
