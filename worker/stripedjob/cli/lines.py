"""The lines of a file of units, one at a time: none is kept in memory that is longer than the bound."""

from dataclasses import dataclass
from typing import Self, TextIO

from stripedjob.cli.exits import DataError

LINE_CHARACTERS_MAX = 100 * 1024 * 1024


@dataclass(slots=True)
class Lines:
    """Iterates over a file that was opened with newline="" and errors="surrogateescape".

    A line that cannot be used raises DataError, and the next call goes on behind it. `number`: the lines begun so far.
    """

    file: TextIO
    longest: int = LINE_CHARACTERS_MAX
    number: int = 0

    def __iter__(self) -> Self:
        """Return itself: what was raised does not end it."""
        return self

    def __next__(self) -> str:
        """Return the next line with its end; raises DataError for one that is too long or not text."""
        line = self.file.readline(self.longest + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > self.longest:
            self._pass_over(line)
            raise DataError(f"it has more than {self.longest} characters")
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError:
                raise DataError("it is not UTF-8 text") from None
        return line

    def _pass_over(self, part: str) -> None:
        while part and not part.endswith(("\n", "\r")):
            part = self.file.readline(self.longest)
