"""What may be in an answer to a stranger, and what may not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from support.endpoint import ERROR, Got

INTERNAL = re.compile(
    r"Traceback|File \"|line \d+, in |sqlite|idsync\.\w|scim2|pydantic|starlette|uvicorn|\blark\b|\.py\b|site-packages"
    r"|\bat 0x[0-9a-f]{6}|<class|<[\w.]+ object|\b\w+(?:Error|Exception)\b|NoneType|input_value|input_type|\[type="
    r"|validation errors? for|instance of \w|\b(?:user|display|given|family|external)_(?:name|id)\b|\[EnterpriseUser\]"
    r"|\bdatetime\.|\bEnum\b",
)
"""Words that name what we are made of: modules, classes, exceptions and the way Python shows an object."""

UNKEPT = re.compile(r"(?<!\\)(?:\\\\)*\\u0000|[\ud800-\udfff]")
"""What a directory never keeps, and so never shows: NUL as JSON writes it, and halves of surrogate pairs."""


def complaint(got: Got) -> str | None:
    """Return what is wrong with an answer to anything at all, or None."""
    if not (200 <= got.status < 300 or 400 <= got.status < 500):
        return f"status {got.status}"
    if got.status >= 400:
        return _error_complaint(got)
    if got.raw and got.headers.get("content-type") != "application/scim+json":
        return f"content type {got.headers.get('content-type')}"
    if got.raw and UNKEPT.search(json.dumps(got.json, ensure_ascii=False)):
        return "NUL or half a surrogate pair in it"
    return next((_inner_complaint(one) for one in _inner_errors(got) if _inner_complaint(one)), None)


def _error_complaint(got: Got) -> str | None:
    body = got.json
    if body.get("schemas") != [ERROR] or body.get("status") != str(got.status):
        return "no SCIM Error"
    if got.headers["content-type"] != "application/scim+json":
        return f"content type {got.headers['content-type']}"
    return _detail_complaint(body)


def _detail_complaint(error: Any) -> str | None:
    detail = error.get("detail")
    if not isinstance(detail, str) or not detail:
        return "no detail"
    found = INTERNAL.search(detail)
    return f"{found[0]!r} in the detail" if found else None


def _inner_errors(got: Got) -> Iterator[Any]:
    """Yield the errors of a bulk answer (RFC 7644 §3.7.3)."""
    if b"BulkResponse" in got.raw[:200]:
        yield from (one for one in got.json["Operations"] if int(one["status"]) >= 400)


def _inner_complaint(operation: Any) -> str | None:
    if int(operation["status"]) >= 500:
        return f"status {operation['status']} inside"
    return _detail_complaint(operation["response"])
