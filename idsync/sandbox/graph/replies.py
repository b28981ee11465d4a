"""Graph's answers: errors in its form, continuations in its links."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any

from idsync.sandbox.idp.jsontext import seconds
from idsync.sandbox.replies import Headers, Refusal, Reply

JSON = dict[str, Any]
TYPE = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
USUAL = {
    400: ("Request_BadRequest", "Invalid request."),
    401: ("InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
    403: ("Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
    410: ("syncStateNotFound", "The sync state generation is not found; it has been expired or removed."),
    429: ("TooManyRequests", "Too many requests."),
    503: ("serviceNotAvailable", "The service is temporarily unavailable. Please try again later."),
    504: ("gatewayTimeout", "The request timed out."),
}


def failure(status: int, code: str, message: str, now: float, headers: Headers = ()) -> Reply:
    number = str(uuid.uuid4())
    inner = {"date": (seconds(now) or "")[:-1], "request-id": number, "client-request-id": number}
    body = {"error": {"code": code, "message": message, "innerError": inner}}
    return Reply(status, body, (("request-id", number), *headers), "application/json")


def missing(ref: str, now: float) -> Refusal:
    said = f"Resource '{ref}' does not exist or one of its queried reference-property objects are not present."
    return Refusal(failure(404, "Request_ResourceNotFound", said, now))


def bad(message: str, now: float, code: str = "Request_BadRequest") -> Refusal:
    return Refusal(failure(400, code, message, now))


def denied(now: float) -> Refusal:
    code, said = USUAL[403]
    return Refusal(failure(403, code, said, now))


def sealed(content: JSON) -> str:
    """A continuation. Opaque to clients; the page's number in it is for rules."""
    packed = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def opened(token: str) -> JSON | None:
    """None for a continuation that was never given out."""
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        return None
    return content if isinstance(content, dict) else None
