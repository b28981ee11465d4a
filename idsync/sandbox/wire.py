"""Bytes in and out of the server: reading a request, sending or withholding an answer."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from idsync.sandbox.replies import Reply, invalid


@dataclass(slots=True)
class Request:
    method: str
    path: str  # without /replica/<n>
    replica: int
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    def json(self) -> Any:
        """The body; None when there is none. Raises a 422 for broken JSON, whatever its media type."""
        if not self.raw:
            return None
        try:
            return json.loads(self.raw)
        except ValueError as problem:
            raise invalid("json_invalid", ["body", 0], f"JSON decode error: {problem}") from None


async def read(scope: Scope, receive: Receive) -> Request:
    raw = b""
    more = True
    while more:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    replica, path = _split(scope["path"])
    query = scope["query_string"]
    return Request(
        scope["method"],
        path,
        replica,
        dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        raw,
    )


def _split(path: str) -> tuple[int, str]:
    """`/replica/2/key/list` is the call /key/list at replica 2; all else is at replica 0."""
    if not path.startswith("/replica/"):
        return 0, path
    number, slash, rest = path[len("/replica/") :].partition("/")
    return (int(number), slash + rest) if number.isdecimal() else (0, path)


def date(ahead: float = 0.0) -> bytes:
    """The Date header. The server writes none of its own, so that a stand-in's clock can be wrong."""
    return formatdate(time.time() + ahead, usegmt=True).encode()


async def send_reply(send: Send, reply: Reply, cut: bool = False) -> None:
    """With `cut`, only half of the body leaves."""
    body = reply.encoded()
    headers = [
        (b"content-type", reply.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(body)),
        (b"date", date()),
        (b"x-routero-call-id", uuid.uuid4().hex.encode()),
        *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    part = body[: len(body) // 2] if cut else body
    await send({"type": "http.response.body", "body": part, "more_body": cut})


async def drop(receive: Receive, send: Send, abort: bool = True) -> None:
    """Close the connection under the server's feet, then wait until it has noticed.

    ASGI has no message for this; the server's own send is a method of an object that knows the transport.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionAbortedError("dropped by a fault rule")
    if abort:
        transport.abort()
    else:
        transport.close()  # what was written still goes out
    await gone(receive)


async def gone(receive: Receive) -> None:
    """Until the client or the server has closed the connection."""
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
