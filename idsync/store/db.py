"""The narrow waist under every SQL function: named parameters in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, Any]


class Db(Protocol):
    """An open connection: read-only, or inside the writer's transaction."""

    def execute(self, sql: str, /, **params: Any) -> int:
        """Run one statement and return the number of rows it changed."""

    def one(self, sql: str, /, **params: Any) -> Row | None:
        """Return the first row, or None."""

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        """Return every row."""

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once this transaction is on disk; never when it is undone."""
