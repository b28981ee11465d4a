"""JSON from strangers: what `json.loads` would let through and a directory must not keep."""

from __future__ import annotations

import json
import re
from typing import Any

from scim2_models import InvalidSyntaxException

MAX_DEPTH = 32
_MAX_INT = 2**63 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse(why: str) -> InvalidSyntaxException:
    return InvalidSyntaxException(detail=f"The request body is not acceptable JSON: {why}.")


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > _MAX_INT:
        raise _refuse("an integer needs more than 63 bits")
    return number


def _real(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _refuse("a number is too large")
    return number


def _constant(text: str) -> Any:
    raise _refuse(f"{text} is not a JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; names are case-insensitive in SCIM (RFC 7643 §2.1), and so are repetitions."""
    found = dict(pairs)
    if len({name.lower() for name in found}) != len(pairs):
        raise _refuse("a name is given twice in one object")
    return found


def _check(value: Any) -> None:
    """Walk a document without recursion: depth, NUL and lone surrogates."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, dict):
                below += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    raise _refuse(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _refuse("a string holds a NUL character")
    if not text.isascii() and _SURROGATE.search(text):
        raise _refuse("a string holds half of a surrogate pair")


def loads(raw: bytes | str) -> Any:
    """Read one JSON document.

    Raises:
        InvalidSyntaxException: it is no JSON, not UTF-8, or holds what is named in the detail.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except UnicodeDecodeError:
        raise _refuse("it is not UTF-8") from None
    except RecursionError:
        raise _refuse(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise _refuse(f"syntax error at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise _refuse("a number cannot be read") from None
    _check(value)
    return value
