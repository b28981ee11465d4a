"""What an answer of the gateway means: the only place that turns a status and a body into an error or a value.

The status and the *shape* of the body decide, never the text and hardly ever the `type`: LiteLLM 1.108.0 writes
`internal_server_error` under a 404 (observed). Its four shapes:

    A  {"error": {"message", "type", "param", "code"}}      key/*, user/new, user/info, team/new, auth
    B  {"detail": {"error": "..."}}                         team/member_*, user/delete, licence gates
    C  {"detail": "..."}                                    404 of an unknown path, 405, some 400
    D  {"detail": [{"type", "loc", "msg"}]}                 422

An answer in none of them did not come from the gateway but from something in front of it (Cloudflare, an ingress,
a load balancer), and says nothing about the object we asked for:

    status            gateway's shape                                   anything else
    204, empty        success of a writing call                         success of a writing call
    other 2xx         success                                           BadAnswer
    3xx               Transient                                         Transient
    400               Conflicting if the member is there, else Rejected Transient
    401               AdminKeyRefused                                   Transient (empty: AdminKeyRefused)
    403               AdminKeyRefused with an auth error, Unsupported   Transient
                      for a licence gate, else Rejected
    404               Unsupported if exactly {"detail":"Not Found"},    Transient: an ingress without a backend
                      else Missing                                      must not prove that a key is gone
    405               Unsupported                                       Unsupported
    408, 425, 5xx     Transient                                         Transient
    409               Conflicting                                       Transient
    429               Throttled                                         Throttled
    other 4xx         Rejected                                          Transient
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from idsync.errors import (
    AdminKeyRefused,
    BadAnswer,
    Conflicting,
    GatewayError,
    Missing,
    Rejected,
    Throttled,
    Transient,
    Unsupported,
)

LONGEST_PAUSE = 300.0
"""The longest Retry-After that is believed, in seconds: an edge must not be able to stop revocations for a day."""

_AUTH_TYPES = frozenset({"auth_error", "token_not_found_in_db", "expired_key"})
_LICENCE = re.compile(r"enterprise|litellm_license|premium", re.IGNORECASE)
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{6,}|(?<=Bearer )\S+", re.IGNORECASE)


class TooLong(BadAnswer):
    """The answer is longer than what is read of one; a smaller page of a listing may not be."""


@dataclass(frozen=True, repr=False)
class Answer:
    """What came back: `body` is cut at the operation's limit, and then `complete` is False."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def clean(text: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """Make foreign text fit to be shown: one line, no control characters, no secrets, at most `limit` characters."""
    text = text[: 2 * limit + 1000]  # masking comes before the real cut, so that no half of a key is left
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    seen = "".join(character if character.isprintable() else " " for character in text)
    text = _SECRET.sub("***", " ".join(seen.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_of(answer: Answer, *, writes: bool = False) -> Any:
    """Return the JSON of a successful answer; for an empty 204 to a call that `writes` an empty object: read back.

    Raises:
        TooLong: it is longer than what is read.
        BadAnswer: it is empty, or not JSON.
    """
    if writes and answer.status == 204 and not answer.body:
        return {}
    if not answer.complete:
        raise TooLong(
            f"the answer is longer than {len(answer.body):,} bytes, the most that is read", status=answer.status
        )
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise BadAnswer(
            f"the gateway answered {answer.status} with {_kind(answer)} instead of JSON", status=answer.status
        ) from None


def object_of(value: Any, what: str) -> dict[str, Any]:
    """Return `value` as an object, or raise BadAnswer naming what was asked for."""
    if not isinstance(value, dict):
        raise BadAnswer(f"{what}: the answer is not an object")
    return value


def rows_of(value: Any, what: str) -> list[Any]:
    """Return `value` as a list, or raise BadAnswer naming what was asked for."""
    if not isinstance(value, list):
        raise BadAnswer(f"{what}: the answer is not a list")
    return value


def error_of(answer: Answer, *, now: float, secrets: Iterable[str] = ()) -> GatewayError | None:
    """Return the error an answer stands for, None for 2xx. `now` is epoch seconds, for a Retry-After with a date."""
    if answer.ok:
        return None
    status = answer.status
    if status == 429:
        return Throttled("the gateway asks for fewer calls", retry_after=_retry_after(answer, now))
    if status == 405:
        return Unsupported("the gateway does not take this verb", status=status)
    if 300 <= status < 400:
        return Transient(f"{_redirect(answer)}; idsync follows none: check routero.base_url", status=status)
    shape = _Shape.of(answer)
    if shape is None:
        return _not_the_gateway(answer)
    return _refusal(status, shape, clean(shape.message, secrets))


@dataclass(frozen=True)
class _Shape:
    type: str
    message: str
    unknown_path: bool = False

    @classmethod
    def of(cls, answer: Answer) -> _Shape | None:
        body = _object_or_none(answer)
        if body is None:
            return None
        error, detail = body.get("error"), body.get("detail")
        if isinstance(error, dict):
            return cls(str(error.get("type") or ""), str(error.get("message") or ""))
        if isinstance(detail, dict):
            return cls(str(detail.get("type") or ""), str(detail.get("error") or detail.get("message") or ""))
        if isinstance(detail, str):
            return cls("", detail, unknown_path=body == {"detail": "Not Found"})
        if isinstance(detail, list):
            return cls("", "; ".join(_complaint(item) for item in detail[:3]))
        return None


def _complaint(item: object) -> str:
    """Say which field was wrong and how, without the value that was sent."""
    if not isinstance(item, dict):
        return "invalid"
    loc = item.get("loc")
    where = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    return f"{where}: {item.get('msg') or 'invalid'}"


def _refusal(status: int, shape: _Shape, text: str) -> GatewayError:
    if status == 401:
        return AdminKeyRefused(f"the gateway refuses idsync's admin key: {text}", status=status)
    if status == 403:
        return _forbidden(shape, text)
    if status == 404 and shape.unknown_path:
        return Unsupported("the gateway has no such endpoint", status=status)
    if status == 404:
        return Missing(f"the gateway has no such object: {text}", status=status)
    if status == 409 or shape.type == "team_member_already_in_team":
        return Conflicting(f"the gateway has it already: {text}", status=status)
    if status in (408, 425) or status >= 500:
        return Transient(f"the gateway answered {status}: {text}", status=status)
    return Rejected(f"the gateway answered {status}: {text}", status=status)


def _forbidden(shape: _Shape, text: str) -> GatewayError:
    if shape.type in _AUTH_TYPES or shape.message == "Not authenticated":
        return AdminKeyRefused(f"the gateway refuses idsync's admin key: {text}", status=403)
    if _LICENCE.search(shape.message):
        return Unsupported(f"the gateway wants a licence for that: {text}", status=403)
    return Rejected(f"the gateway forbids that: {text}", status=403)


def _not_the_gateway(answer: Answer) -> GatewayError:
    """Judge an answer in no shape of the gateway's. Only an empty 401 is still about the key."""
    if answer.status == 401 and not answer.body.strip():
        return AdminKeyRefused("the gateway refuses idsync's admin key", status=401)
    whose = "the gateway failed" if answer.status >= 500 else "something in front of the gateway answered"
    return Transient(f"{whose}: {answer.status} with {_kind(answer)}", status=answer.status)


def _object_or_none(answer: Answer) -> dict[str, Any] | None:
    if not answer.complete:
        return None
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _kind(answer: Answer) -> str:
    body = answer.body.lstrip()[:64].lower()
    if not body:
        return "an empty body"
    if body.startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
        return "a web page"
    return "JSON of another form" if body.startswith((b"{", b"[")) else "plain text"


def _redirect(answer: Answer) -> str:
    place = urlsplit(answer.headers.get("Location", ""))
    where = clean(f"{place.scheme}://{place.hostname}", limit=80) if place.hostname else "elsewhere"
    return f"the gateway answered {answer.status}, a redirect to {where}"


def _retry_after(answer: Answer, now: float) -> float | None:
    """Read Retry-After as seconds or as an HTTP date (RFC 9110 §10.2.3); None when it is missing or nonsense."""
    raw = answer.headers.get("Retry-After", "").strip()
    if raw.isascii() and raw.isdigit():
        return min(float(raw[:9]), LONGEST_PAUSE)
    try:
        date = parsedate_to_datetime(raw)
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(at - now, 0.0), LONGEST_PAUSE)
