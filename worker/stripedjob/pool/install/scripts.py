"""The SQL files of the pool, as they are in this version of the package. Read by migrate.py."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from psycopg import sql

from stripedjob.pool.errors import PoolSchemaError
from stripedjob.spec.forms import SCHEMA_LENGTH_MAX, SCHEMA_PATTERN, is_postgres_own

ROOMS = ("api/v1", "lib")  # what others call, frozen by name and signature; and what that stands on
SCHEMA_TOKEN = "@extschema@"  # noqa: S105 - not a secret: the token of PostgreSQL's extension scripts


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its version, which is its number, and its SQL."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All migrations of this version of the package, in order."""
    found = sorted(
        (entry for entry in (files("stripedjob.pool") / "schema").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text("utf-8")) for entry in found]


def routines() -> str:
    """All functions, triggers and views of this version of the package, as one text."""
    pool = files("stripedjob.pool")
    found = (entry for room in ROOMS for entry in sorted((pool / room).iterdir(), key=lambda entry: entry.name))
    return "\n".join(entry.read_text("utf-8") for entry in found if entry.name.endswith(".sql"))


def digest(text: str) -> str:
    """Give what a text is recognised by."""
    return hashlib.sha256(text.encode()).hexdigest()


def for_schema(text: str, schema: str) -> bytes:
    """Put the schema's quoted name into a text of ours."""
    return text.replace(SCHEMA_TOKEN, sql.Identifier(schema).as_string()).encode()


def check_schema_name(schema: str) -> str:
    """Return the name, or raise PoolSchemaError where the StripedJob could not have it either."""
    if not re.fullmatch(SCHEMA_PATTERN, schema) or len(schema) > SCHEMA_LENGTH_MAX or schema.endswith("\n"):
        raise PoolSchemaError(f"schema name {schema!r}: use up to 63 of a-z, 0-9 and _, not starting with a digit")
    if is_postgres_own(schema):
        raise PoolSchemaError(f"schema name {schema!r} is one of Postgres' own: use another")
    return schema
