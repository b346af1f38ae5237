"""Files of units: CSV with a header, or one JSON object a line. Pure but for the lines it is given.

Columns or keys: resource and payload (JSON), and optionally importance, due_at (ISO 8601 with a time zone), dedup_id.
"""

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stripedjob.cli.exits import DataError
from stripedjob.pool.enqueue import NewUnit

Format = Literal["csv", "jsonl"]
COLUMNS = ("resource", "payload", "importance", "due_at", "dedup_id")
RESOURCE_BYTES_MAX = 512  # as the table `unit` has it
IMPORTANCE_MAX = 100
SHOWN_MAX = 20  # bad lines in one message


@dataclass(slots=True)
class Reader:
    """Reads units, and keeps account of the bad lines. `read` lines and `bad` ones are counted as it goes."""

    form: Format
    read: int = 0
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0

    def units(self, lines: Iterable[str]) -> Iterator[NewUnit]:
        """Yield the good units; raises DataError for a header that cannot be used."""
        rows = _csv_rows(lines) if self.form == "csv" else _json_rows(lines)
        for number, parse in rows:
            self.read += 1
            try:
                unit = parse()
            except DataError as error:
                self.bad_count += 1
                if len(self.bad) < SHOWN_MAX:
                    self.bad.append(f"line {number}: {error}")
                continue
            if unit is not None:
                yield unit

    def complaint(self) -> str:
        """List the bad lines."""
        more = self.bad_count - len(self.bad)
        return "\n".join(self.bad) + (f"\nand {more} more" if more else "")


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, Callable[[], NewUnit | None]]]:
    def parse(line: str) -> NewUnit | None:
        if not line.strip():
            return None
        row = _json(line, "the line")
        if not isinstance(row, dict):
            raise DataError(f"it is {_shown(row)}, not a JSON object with resource and payload")
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise DataError(f"there is no key {min(unknown)!r}; known: {', '.join(COLUMNS)}")
        return _unit(row, row.get("payload"))

    for number, line in enumerate(lines, 1):
        yield number, lambda line=line: parse(line)  # type: ignore[misc]


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, Callable[[], NewUnit | None]]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"line 1: {error}") from error
    if not {"resource", "payload"} <= set(header) or set(header) - set(COLUMNS):
        raise DataError(
            f"line 1: the header is {','.join(header)!r}; it needs resource,payload and may have "
            f"{', '.join(COLUMNS[2:])}"
        )

    def parse(cells: list[str]) -> NewUnit | None:
        if len(cells) != len(header):
            raise DataError(f"it has {len(cells)} fields, and the header {len(header)}")
        row: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        if "importance" in row:
            row["importance"] = _json(row["importance"], "importance")
        return _unit(row, _json(row.get("payload", "null"), "payload"))

    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = str(error)
            yield reader.line_num, lambda problem=problem: _refuse(problem)  # type: ignore[misc]
            continue
        if cells is None:
            return
        if cells:
            yield reader.line_num, lambda cells=cells: parse(cells)  # type: ignore[misc]


def _refuse(problem: str) -> NewUnit:
    raise DataError(problem)


def _unit(row: dict[str, Any], payload: Any) -> NewUnit:
    importance = row.get("importance")
    if importance is not None and (type(importance) is not int or abs(importance) > IMPORTANCE_MAX):
        raise DataError(f"importance {_shown(importance)} is not a whole number within ±{IMPORTANCE_MAX}")
    due_at = row.get("due_at")
    try:
        moment = None if due_at is None else dt.datetime.fromisoformat(due_at)
        unit = NewUnit(
            resource=_text(row, "resource"),
            payload=payload,
            importance=importance,
            due_at=moment,
            dedup_id=_text(row, "dedup_id") if row.get("dedup_id") is not None else None,
        )
        json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError("the payload has half of a surrogate pair, which is not text") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"due_at {_shown(due_at)}: {error}") from error
    return unit


def _text(row: dict[str, Any], name: str) -> str:
    """Check a name as the database will."""
    given = row.get(name)
    if not isinstance(given, str) or not given:
        raise DataError(f"{name} is {'missing' if given in (None, '') else _shown(given) + ', not text'}")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise DataError(f"{name} has half of a surrogate pair, which is not text") from None
    if "\0" in given:
        raise DataError(f"{name} {_shown(given)} has a NUL character, which Postgres cannot store")
    if size > RESOURCE_BYTES_MAX:
        raise DataError(f"{name} {_shown(given)} has {size} bytes; at most {RESOURCE_BYTES_MAX}, so use a hash of it")
    return given


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise DataError(f"{what} is not JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{what} is nested too deep") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not in JSON")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a glimpse
