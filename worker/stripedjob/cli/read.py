"""Files of units: CSV with a header, or one JSON object a line. Pure but for the lines it is given.

Columns or keys: resource and payload (JSON), and optionally importance, due_at (ISO 8601 with a time zone), dedup_id.
A payload goes into the pool as it is written.
"""

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stripedjob.cli import json_text
from stripedjob.cli.exits import DataError
from stripedjob.cli.json_text import shown
from stripedjob.cli.lines import Lines
from stripedjob.pool.client.enqueue import NewUnit

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

    def units(self, lines: Lines) -> Iterator[NewUnit]:
        """Yield the good units; raises DataError for a header that cannot be used."""
        rows = _CsvRows(lines) if self.form == "csv" else _JsonRows(lines)
        while True:
            try:
                unit = rows.next_unit()
            except StopIteration:
                return
            except DataError as error:
                self.bad_count += 1
                if len(self.bad) < SHOWN_MAX:
                    self.bad.append(f"line {lines.number}: {error}")
                unit = None
            self.read += 1
            if unit is not None:
                yield unit

    def complaint(self) -> str:
        """List the bad lines."""
        more = self.bad_count - len(self.bad)
        return "\n".join(self.bad) + (f"\nand {more} more" if more else "")


class _JsonRows:
    """One object a line; empty lines are no units."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def next_unit(self) -> NewUnit | None:
        line = next(self._lines)
        if not line.strip():
            return None
        row = json_text.members(line, "the line")
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise DataError(f"there is no key {shown(min(unknown))}; known: {', '.join(COLUMNS)}")
        payload = row.pop("payload", "null")
        return _unit({name: json_text.value(text, name) for name, text in row.items()}, payload)


class _CsvRows:
    """One record after the header; a record may have several lines, and is named by its last."""

    def __init__(self, lines: Lines) -> None:
        csv.field_size_limit(lines.longest)  # a quote that is never closed ends there
        self._reader = csv.reader(lines, strict=True)
        try:
            self._header = next(self._reader, [])
            _check_header(self._header)
        except (csv.Error, DataError) as error:
            raise DataError(f"line {max(1, lines.number)}: {error}") from None

    def next_unit(self) -> NewUnit | None:
        try:
            cells = next(self._reader)
        except csv.Error as error:
            raise DataError(str(error)) from None
        if not cells:
            return None
        if len(cells) != len(self._header):
            raise DataError(f"it has {len(cells)} fields, and the header {len(self._header)}")
        row: dict[str, Any] = {name: cell for name, cell in zip(self._header, cells, strict=True) if cell}
        if "importance" in row:
            row["importance"] = json_text.value(row["importance"], "importance")
        payload = row.get("payload", "null")
        json_text.check(payload, "the payload")
        return _unit(row, payload)


def _check_header(header: list[str]) -> None:
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise DataError(f"the header has the column {shown(min(twice))} twice")
    if not header:
        raise DataError("there is no header: the first line names the columns, resource,payload at least")
    if not {"resource", "payload"} <= set(header) or set(header) - set(COLUMNS):
        raise DataError(
            f"the header is {shown(','.join(header))}; it needs resource,payload and may have {', '.join(COLUMNS[2:])}"
        )


def _unit(row: dict[str, Any], payload: str) -> NewUnit:
    importance = row.get("importance")
    if importance is not None and (type(importance) is not int or abs(importance) > IMPORTANCE_MAX):
        raise DataError(f"importance {shown(importance)} is not a whole number within ±{IMPORTANCE_MAX}")
    json_text.check_surrogates(payload, "the payload")
    due_at = row.get("due_at")
    return NewUnit(
        resource=_text(row, "resource"),
        payload_json=payload,
        importance=importance,
        due_at=None if due_at is None else _moment(due_at),
        dedup_id=_text(row, "dedup_id") if row.get("dedup_id") is not None else None,
    )


def _moment(given: Any) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise DataError(f"due_at {shown(given)} is no time such as 2030-01-31T08:00:00+01:00") from None
    if moment.tzinfo is None:
        raise DataError(f"due_at {shown(given)} has no time zone: write 2030-01-31T08:00:00Z, or +01:00 in place of Z")
    return moment


def _text(row: dict[str, Any], name: str) -> str:
    """Check a name as the database will."""
    given = row.get(name)
    if not isinstance(given, str) or not given:
        raise DataError(f"{name} is {'missing' if given in (None, '') else shown(given) + ', not text'}")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise DataError(f"{name} has half of a surrogate pair, which is not text") from None
    if "\0" in given:
        raise DataError(f"{name} {shown(given)} has a NUL character, which Postgres cannot store")
    if size > RESOURCE_BYTES_MAX:
        raise DataError(f"{name} {shown(given)} has {size} bytes; at most {RESOURCE_BYTES_MAX}, so use a hash of it")
    return given
