"""The hash chain of the audit trail: each entry carries the hash of the one before it. Pure.

Altering, removing or inserting an entry breaks every hash after it. Cutting off the end is only visible against a
head hash that was written down elsewhere, which is why the daemon logs the head at start and stop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
_detail = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
_sealed = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class AuditEvent:
    """One thing that happened. `detail` never holds a secret; `at` is epoch seconds."""

    seq: int
    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    prev: str
    hash: str


def detail_text(detail: Mapping[str, Any]) -> str:
    """Write the detail in the one form that is hashed and stored."""
    return _detail(detail)


def digest(prev: str, seq: int, at: float, actor: str, action: str, subject: str, detail: str) -> str:
    """Return the SHA-256 that seals an entry to its predecessor."""
    sealed = _sealed([prev, seq, repr(at), actor, action, subject, detail])
    return hashlib.sha256(sealed.encode("utf-8", "surrogatepass")).hexdigest()


def first_break(events: Iterable[AuditEvent], after: int = 0, prev: str = GENESIS) -> int | None:
    """Return the number of the first entry that does not fit the chain, or None when all do.

    `after` and `prev` are the number and the hash of the last entry that was checked before these.
    """
    expected = after + 1
    for event in events:
        sealed = digest(prev, event.seq, event.at, event.actor, event.action, event.subject, detail_text(event.detail))
        if event.seq != expected or event.prev != prev or event.hash != sealed:
            return event.seq
        prev, expected = event.hash, expected + 1
    return None
