"""The same rules for every operation of a bulk request (RFC 7644 §3.7)."""

from __future__ import annotations

import re
from typing import Any

from scim2_models import InvalidSyntaxException, PayloadTooLargeException, SCIMException

from idsync.scim.attributes import Catalogue, standard
from idsync.scim.provider import MAX_MEMBERS, MAX_OPERATIONS
from idsync.scim.tolerance.patch import message, patch, strict_patch
from idsync.scim.tolerance.resource import resource
from idsync.scim.tolerance.values import Notes

_BULK_PATH = re.compile(r"(users|groups)(?:/([^/]+))?", re.IGNORECASE)


def bulk(
    document: Any, *, strict: bool, catalogue: Catalogue | None = None
) -> tuple[dict[str, Any], dict[int, SCIMException]]:
    """Put the data of every operation of a bulk request (RFC 7644 §3.7) through the same rules.

    Returns the request, and by position what is refused; the others of the request go on (§3.7.3).
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A bulk request is a JSON object.")
    known = catalogue or standard()
    shaped, failures = dict(document), dict[int, SCIMException]()
    for name, value in document.items():
        if name.lower() == "operations" and isinstance(value, list):
            if len(value) > MAX_OPERATIONS:
                raise PayloadTooLargeException(detail=f"One request holds at most {MAX_OPERATIONS} operations.")
            if sum(_named(one) for one in value) > MAX_MEMBERS:
                raise PayloadTooLargeException(detail=f"One request names at most {MAX_MEMBERS} members.")
            shaped[name] = [_try_bulk(number, one, failures, known, strict=strict) for number, one in enumerate(value)]
    return shaped, failures


def _named(one: Any) -> int:
    """Count the members an operation of a bulk request names, wherever in it."""
    found = 0
    stack = [one]
    while stack:
        x = stack.pop()
        if isinstance(x, dict):
            found += sum(len(v) for k, v in x.items() if isinstance(v, list) and k.lower() in ("members", "value"))
            stack += x.values()
        elif isinstance(x, list):
            stack += x
    return found


def _try_bulk(number: int, one: Any, failures: dict[int, SCIMException], known: Catalogue, *, strict: bool) -> Any:
    try:
        return _bulk_operation(one, known, strict=strict)
    except SCIMException as error:
        failures[number] = error
        return {name: value for name, value in one.items() if name.lower() != "data"}


def _bulk_operation(one: Any, known: Catalogue, *, strict: bool) -> Any:
    if not isinstance(one, dict):
        return one
    lowered = {name.lower(): value for name, value in one.items()}
    path, data, method = lowered.get("path"), lowered.get("data"), str(lowered.get("method")).upper()
    match = _BULK_PATH.fullmatch(path.strip("/")) if isinstance(path, str) else None
    if match is None or data is None:
        return one
    rest = {name: value for name, value in one.items() if name.lower() != "data"}
    if method == "DELETE":
        return rest
    notes = Notes("User" if match[1].lower() == "users" else "Group", match[2], known)
    if method == "PATCH":
        return {**rest, "data": message((strict_patch if strict else patch)(data, notes))}
    return {**rest, "data": resource(data, notes, strict=strict)}
