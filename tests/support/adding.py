"""Whether a migration only adds: then replicas of the release before it go on, and start, on the schema it makes."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"--[^\n]*")
_NAME = r"([a-z_]+)"
_TABLE = re.compile(rf"CREATE TABLE {_NAME} ?\(.*\)")
_INDEX = re.compile(rf"CREATE (UNIQUE )?INDEX {_NAME} ON {_NAME} ?\(.*\)(?: WHERE .+)?")
_COLUMN = re.compile(rf"ALTER TABLE {_NAME} ADD COLUMN {_NAME} (TEXT|INTEGER|REAL|DOUBLE PRECISION|BIGINT)(.*)")
_INSERT = re.compile(rf"INSERT INTO {_NAME}\b.*")
_UPDATE = re.compile(rf"UPDATE {_NAME} SET (.+?)(?: WHERE .+)?")  # noqa: S608 - matches, runs nothing
_OPTION = re.compile(r"|NULL|(NOT NULL )?DEFAULT ('[^']*'|-?[0-9.]+|NULL)|DEFAULT ('[^']*'|-?[0-9.]+) NOT NULL")


def statements(script: str) -> list[str]:
    """Return the statements of a migration, each in one line; there is no `;` in their texts."""
    plain = re.sub(r"\s+", " ", _COMMENT.sub("", script))
    return [part.strip() for part in plain.split(";") if part.strip()]


def not_adding(script: str) -> list[str]:
    """Return the statements that old code would notice, or might fail on."""
    tables: set[str] = set()
    columns: set[tuple[str, str]] = set()
    return [text for text in statements(script) if not _adds(text, tables, columns)]


def _adds(text: str, tables: set[str], columns: set[tuple[str, str]]) -> bool:
    """Tell whether one statement only adds; `tables` and `columns` are what this migration has added so far."""
    if found := _TABLE.fullmatch(text):
        tables.add(found[1])
        return True
    if found := _INDEX.fullmatch(text):
        return not found[1] or found[3] in tables  # what old code writes may be there twice
    if found := _COLUMN.fullmatch(text):
        columns.add((found[1], found[2]))
        return _OPTION.fullmatch(found[4].strip()) is not None
    if found := _INSERT.fullmatch(text):
        return found[1] in tables
    if found := _UPDATE.fullmatch(text):
        changed = re.findall(rf"(?:^|, ){_NAME} ?=", found[2])
        return found[1] in tables or (bool(changed) and all((found[1], name) in columns for name in changed))
    return False


def later(tables: list[str]) -> str:
    """Return a migration of a later release: every table gets another column, and there is another table."""
    kinds = ["TEXT", "INTEGER NOT NULL DEFAULT 0", "TEXT NOT NULL DEFAULT ''", "DOUBLE PRECISION"]
    wanted = [name for name in tables if name != "idsync_migrations"]
    added = [f"ALTER TABLE {name} ADD COLUMN later {kinds[n % len(kinds)]};" for n, name in enumerate(wanted)]
    return "\n".join(
        [*added, "CREATE TABLE later (id TEXT PRIMARY KEY);", "CREATE INDEX users_later ON users (later);"]
    )
