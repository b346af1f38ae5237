"""The delegator: a page of 100 rows from id 0, again and again; a resource without a record gets a worker and a record.

    read the first page → for each of its resources: is there a record? → no: schedule a worker, insert a record → again

It goes on to the next page only when the rows of this one are gone, and gives its slot back only when the table is
empty. Look and insert are two steps, with no constraint behind them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.reference.mutex import PAGE, PAGE_ROWS

if TYPE_CHECKING:
    import psycopg


@dataclass
class Delegator:
    """One delegator on the table `work`; `assigned` are the resources that it has scheduled a worker for, in order."""

    conn: psycopg.Connection
    assigned: list[str] = field(default_factory=list)
    queries: int = 0

    def __post_init__(self) -> None:
        self._query("create table if not exists delegated (resource text not null)")

    def run(self, scans_max: int) -> bool:
        """Scan until the table is empty; False: it is not, after `scans_max` scans."""
        for _ in range(scans_max):
            page = self._query(PAGE, 0, PAGE_ROWS)
            if not page:
                return True
            for _row, resource in page:
                if not self._query("select 1 from delegated where resource = %s", resource):
                    self._query("insert into delegated values (%s)", resource)
                    self.assigned.append(str(resource))
        return False

    def _query(self, query: str, *values: object) -> list[tuple[object, ...]]:
        self.queries += 1
        cursor = self.conn.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []
