"""The SQL files of the pool, as they are in this version of the package, read once a process. Used by migrate.py."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import sql

from stripedjob.pool.errors import PoolSchemaError
from stripedjob.spec.forms import SCHEMA_BYTES_MAX, SCHEMA_PATTERN, is_postgres_own

API = "api/v1"  # what others call, frozen by name and signature
ROOMS = ("lib", API)  # first what that stands on
SCHEMA_TOKEN = "@extschema@"  # noqa: S105 - not a secret: the token of PostgreSQL's extension scripts
SCHEMA = re.compile(r"'@extschema@([^'\n]*)'|@extschema@")  # a text that begins with the token, or the token alone


FUNCTION = re.compile(
    r"^create or replace function (?P<name>@extschema@\.\w+)\((?P<arguments>[^$]*?)\)\s*(?:returns\b|language\b)"
    r"(?P<rest>.*?) as \$\$$",
    re.MULTILINE | re.DOTALL,
)
ARGUMENT = re.compile(r"(?P<is_out>out )?\s*\w+\s+(?P<type>.+?)(?:\s+default\b.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its version, which is its number, and its SQL."""

    version: int
    name: str
    text: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this version of the package, in order."""
    found = sorted(
        (entry for entry in (files("stripedjob.pool") / "schema").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return tuple(Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text("utf-8")) for entry in found)


def latest() -> int:
    """Return the version of the schema that this version of the package has."""
    return migrations()[-1].version


@cache
def routines() -> str:
    """All functions, triggers and views of this version of the package, as one text."""
    pool = files("stripedjob.pool")
    found = (entry for room in ROOMS for entry in sorted((pool / room).iterdir(), key=lambda entry: entry.name))
    return "\n".join(entry.read_text("utf-8") for entry in found if entry.name.endswith(".sql"))


@dataclass(frozen=True, slots=True)
class Published:
    """A function of the API: its part, which is the name of its file, and its signature, as GRANT takes it.

    `as_caller`: it runs with the rights of who calls it, since what it runs is the caller's own.
    """

    part: str
    signature: str
    as_caller: bool

    @property
    def name(self) -> str:
        """Its name without the schema."""
        return self.signature.partition("(")[0].removeprefix(f"{SCHEMA_TOKEN}.")


@cache
def published() -> tuple[Published, ...]:
    """All functions of the API, by part; their schema is SCHEMA_TOKEN."""
    folder = files("stripedjob.pool") / API
    texts = {entry.name.removesuffix(".sql"): entry.read_text("utf-8") for entry in folder.iterdir()}
    return tuple(
        Published(part, f"{found['name']}({_types(found['arguments'])})", "security invoker" in found["rest"])
        for part, text in sorted(texts.items())
        for found in FUNCTION.finditer(text)
    )


def _types(arguments: str) -> str:
    """Return the types of what a function takes."""
    found = [ARGUMENT.fullmatch(one.strip()) for one in arguments.split(",")]
    return ", ".join(one["type"] for one in found if one and not one["is_out"])


def digest(text: str) -> str:
    """Return what a text is recognised by."""
    return hashlib.sha256(text.encode()).hexdigest()


def for_schema(text: str, schema: str) -> bytes:
    """Put the schema's quoted name into a text of ours, quoted again where it stands in a text."""
    name = sql.Identifier(schema).as_string()
    tag = "body"
    while f"${tag}$" in name:
        tag += "s"
    text = text.replace("$$", f"${tag}$") if "$$" in name else text
    return SCHEMA.sub(lambda found: name if found[1] is None else _literal(name + found[1]), text).encode()


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def check_schema_name(schema: str) -> str:
    """Return the name, or raise PoolSchemaError where the StripedJob could not have it either."""
    if not re.fullmatch(SCHEMA_PATTERN, schema) or len(schema.encode(errors="replace")) > SCHEMA_BYTES_MAX:
        raise PoolSchemaError(f"schema name {schema!r}: use 1 to 63 bytes, and no control characters")
    if is_postgres_own(schema):
        raise PoolSchemaError(f"schema name {schema!r} is one of Postgres' own: use another")
    return schema
