"""What the tests hand to a sink, and how they look for it where it must not be."""

from __future__ import annotations

import asyncio
import base64
import traceback

import pytest
from pydantic import SecretStr

from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery, Sink

SECRET = "canary" + "Zq9Wm3Xp5Ty8Rk2Lv6"
"""No virtual key by its looks, so that nothing hides it only because it begins with `sk-`."""


def delivery(secret: str = SECRET, alias: str = "ds-prod", team: str | None = "data-science") -> Delivery:
    return Delivery(SecretStr(secret), alias, team, "hash-1", None)


def deliver(sink: Sink, secret: str = SECRET, alias: str = "ds-prod", team: str | None = "data-science") -> None:
    asyncio.run(sink.deliver(delivery(secret, alias, team)))


def problems(sink: Sink) -> list[str]:
    return asyncio.run(sink.check())


def refused(sink: Sink, secret: str = SECRET, alias: str = "ds-prod", team: str | None = "data-science") -> str:
    """Deliver what the sink must not take; return its sentence, after looking for the secret in it."""
    with pytest.raises(SinkFailed) as caught:
        deliver(sink, secret, alias, team)
    assert not shown(secret, "".join(traceback.format_exception(caught.value)))
    return str(caught.value)


def shown(secret: str, text: str) -> bool:
    """Say whether a text gives the secret away, or enough of it."""
    pieces = [secret[start : start + 8] for start in range(len(secret) - 7)]
    return any(piece in text for piece in [*pieces, base64.b64encode(secret.encode()).decode()[:12]])
