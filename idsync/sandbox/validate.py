"""Typed reading of bodies and queries; what does not fit is a 422."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsync.sandbox.replies import invalid

Body = dict[str, Any]
Query = Mapping[str, str]


def require(body: Body, name: str) -> str:
    if body.get(name) is None:
        raise invalid("missing", ["body", name], "Field required")
    return text(body, name) or ""


def text(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid("string_type", ["body", name], "Input should be a valid string")
    return value


def texts(body: Body, name: str) -> list[str] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise invalid("list_type", ["body", name], "Input should be a valid list")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise invalid("string_type", ["body", name, index], "Input should be a valid string")
    return list(value)


def number(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise invalid("float_type", ["body", name], "Input should be a valid number")
    return value


def whole(body: Body, name: str) -> int | None:
    value = number(body, name)
    if value is not None and value != int(value):
        raise invalid("int_from_float", ["body", name], "Input should be a valid integer")
    return None if value is None else int(value)


def flag(body: Body, name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid("bool_type", ["body", name], "Input should be a valid boolean")
    return value


def mapping(body: Body, name: str) -> Body | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise invalid("dict_type", ["body", name], "Input should be a valid dictionary")
    return value


def choice(body: Body, name: str, allowed: tuple[str, ...]) -> str | None:
    value = text(body, name)
    if value is not None and value not in allowed:
        names = " or ".join(repr(item) for item in allowed)
        raise invalid("literal_error", ["body", name], f"Input should be {names}")
    return value


def asked(query: Query, name: str) -> str:
    if name not in query:
        raise invalid("missing", ["query", name], "Field required")
    return query[name]


def count(query: Query, name: str, default: int, most: int | None = None) -> int:
    """A whole number from 1, at most `most`."""
    given = query.get(name)
    if given is None:
        return default
    try:
        value = int(given)
    except ValueError:
        raise invalid("int_parsing", ["query", name], "Input should be a valid integer") from None
    if value < 1:
        raise invalid("greater_than_equal", ["query", name], "Input should be greater than or equal to 1")
    if most is not None and value > most:
        raise invalid("less_than_equal", ["query", name], f"Input should be less than or equal to {most}")
    return value


def truth(query: Query, name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1", "yes", "on")
