"""The hash chain of the audit trail: each entry carries the hash of the one before it. Pure.

Altering, removing or inserting an entry breaks every hash after it. Cutting off the end, or sealing everything anew, is
only visible against a head hash that was written down elsewhere, which is why the daemon logs it at start and stop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
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


@dataclass(frozen=True)
class Checkpoint:
    """Where a trail goes on whose beginning was exported: after the entry `seq`, with its hash.

    `entries` and `sha256` are those of the exported file, `at` is epoch seconds.
    """

    seq: int
    hash: str
    entries: int
    sha256: str
    at: float

    def is_sealed_by(self, event: AuditEvent, action: str) -> bool:
        """Tell whether an entry of the trail says that this was made."""
        return event.action == action and (event.detail.get("seq"), event.detail.get("hash")) == (self.seq, self.hash)


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


def line_of(event: AuditEvent) -> str:
    """Write an entry as one line of an exported trail."""
    return json.dumps(vars(event), separators=(",", ":"))


def event_of(line: str) -> AuditEvent:
    """Read such a line.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError(line[:20]) from None
    kinds = {
        "seq": int,
        "at": float,
        "actor": str,
        "action": str,
        "subject": str,
        "detail": dict,
        "prev": str,
        "hash": str,
    }
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise ValueError(line[:20])
    if any(type(found[name]) is not kind for name, kind in kinds.items()):
        raise ValueError(line[:20])
    return AuditEvent(**found)


@dataclass(frozen=True)
class Verdict:
    """What a check of the whole trail has found. `noted`: a head written down earlier is in it; None: none was given."""

    breaks_at: int | None
    noted: bool | None

    @property
    def whole(self) -> bool:
        return self.breaks_at is None and self.noted is not False


def judge(
    events: Iterable[AuditEvent],
    *,
    head: str | None = None,
    entries: int | None = None,
    start: tuple[int, str] = (0, GENESIS),
) -> Verdict:
    """Check the chain from its beginning, and that it holds what was noted of it: a head, a number of entries, or both.

    The trail may have grown since; with both, the entry of that number is the one with that hash. `start` is the number
    and the hash of the entry before these, where they are a part of the trail.
    """
    seen: dict[int, str] = {}

    def watched() -> Iterator[AuditEvent]:
        last = AuditEvent(start[0], 0.0, "", "", "", {}, "", start[1])
        for event in chain([last], events):
            if event.hash == head or event.seq == entries:
                seen[event.seq] = event.hash
            if event is not last:
                yield event

    broken = first_break(watched(), *start)
    if head is None and entries is None:
        return Verdict(broken, None)
    found = [seal for seq, seal in seen.items() if entries in (None, seq)]
    return Verdict(broken, broken is None and (head in found if head is not None else bool(found)))
