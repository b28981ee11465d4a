"""One SQL text for both stores: what PostgreSQL is told where SQLite takes the text as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_PARTS = re.compile(r"'(?:[^']|'')*'|::|:([A-Za-z_][A-Za-z0-9_]*)|%|(?<=[\s(])\+(?=[a-z_])")
_TYPES = re.compile(r"\b(TEXT|INTEGER|REAL)\b")
_COMMENT = re.compile(r"--[^\n]*")
TYPES = {"TEXT": 'TEXT COLLATE "C"', "INTEGER": "BIGINT", "REAL": "DOUBLE PRECISION"}
"""Texts sort by their bytes, numbers are as large as SQLite's."""


@lru_cache(2048)
def statement(sql: str) -> str:
    """Return a statement with `:name` parameters as psycopg takes it."""

    def part(found: re.Match[str]) -> str:
        if found[1]:
            return f"%({found[1]})s"
        return "" if found[0] == "+" else found[0].replace("%", "%%")  # a plus keeps SQLite's planner off an index

    return _PARTS.sub(part, sql)


def parameters(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters with 0 and 1 for what is false and true, as the columns are numbers, and without NUL.

    PostgreSQL keeps no NUL in a text. What is stored or looked for with one has the replacement character in its place.
    """
    return {name: _kept(value) for name, value in given.items()}


def _kept(value: Any) -> Any:
    if value is True or value is False:
        return int(value)
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value


def schema(script: str) -> str:
    """Return a migration in PostgreSQL's types."""
    return _TYPES.sub(lambda found: TYPES[found[1]], _COMMENT.sub("", script))
