"""JSON text without an encoder in between, where pages are large."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any


def text(value: Any) -> str:
    """One JSON value."""
    if type(value) is str:
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    return json.dumps(value)


def array(rows: Iterable[str]) -> bytes:
    return ("[" + ",".join(rows) + "]").encode()


def millis(moment: float | None) -> str | None:
    """Epoch seconds as `2026-11-23T04:00:00.000Z`, as Okta writes times."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{round(moment * 1000) % 1000:03d}Z"


def seconds(moment: float | None) -> str | None:
    """Epoch seconds as `2026-11-23T04:00:00Z`, as Graph writes times."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> float:
    """Epoch seconds of an ISO 8601 time. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
