"""Plain HTTP to loopback, one connection kept a host; what the demo's identity providers and gateway users send."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from idsync.errors import IdsyncError


class DemoFailed(IdsyncError):
    """The demo did not go as it must."""


@dataclass
class Wire:
    """A base address with the headers of one client."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, body: Any = None, **more: str) -> tuple[int, Any]:
        """Return (status, decoded body)."""
        parts = urlsplit(self.base)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, parts.path + path, data, {**self.headers, **more})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        return response.status, json.loads(raw) if raw else None

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Send what has to succeed.

        Raises:
            DemoFailed: it did not.
        """
        status, answer = self.send(method, path, body)
        if status >= 300:
            msg = f"{method} {path} was answered {status}: {json.dumps(answer)[:300]}"
            raise DemoFailed(msg)
        return answer
