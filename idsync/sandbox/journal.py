"""The request log: what was asked, in which order, and what came of it."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

from idsync.sandbox.masking import mask, masked

MOST_ENTRIES = 200_000  # the oldest go first


@dataclass(slots=True)
class Entry:
    n: int
    at: float  # epoch seconds at arrival
    t: float  # seconds since the sandbox started
    method: str
    path: str
    query: dict[str, str]
    raw: bytes
    replica: int
    status: int | None = None  # None: not answered, or the connection was closed
    caller: str = "none"
    fault: str | None = None
    headers: dict[str, str] | None = None  # those an identity provider goes by

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "n": self.n,
            "at": self.at,
            "t": self.t,
            "method": self.method,
            "path": mask(self.path),
            "query": masked(self.query),
            "body": _readable(self.raw),
            "status": self.status,
            "replica": self.replica,
            "caller": self.caller,
            "fault": self.fault,
        }
        return row if self.headers is None else row | {"headers": self.headers}


class Journal:
    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=MOST_ENTRIES)
        self._start = time.monotonic()
        self._count = 0

    def open(self, method: str, path: str, query: dict[str, str], raw: bytes, replica: int) -> Entry:
        """Numbered at arrival, in the order of arrival; the outcome is filled in later."""
        self._count += 1
        t = time.monotonic() - self._start
        entry = Entry(self._count, time.time(), t, method, path, query, raw, replica)
        self._entries.append(entry)
        return entry

    def rows(self, since: int = 0) -> list[dict[str, Any]]:
        """Entries numbered above `since`."""
        first = self._entries[0].n if self._entries else 0
        return [entry.row() for entry in islice(self._entries, max(0, since + 1 - first), None)]

    def clear(self) -> None:
        """Forget the entries; the numbers go on."""
        self._entries.clear()


def _readable(raw: bytes) -> Any:
    """Masked when read, not when written: the log must not slow the sandbox down."""
    if not raw:
        return None
    try:
        return masked(json.loads(raw))
    except ValueError:
        return mask(raw.decode(errors="replace"))
