"""How clients bend the query of a request (RFC 7644 §3.4.2): its parameters and its filter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from scim2_models import InvalidFilterException, InvalidSyntaxException, InvalidValueException

from idsync.scim.attributes import Catalogue
from idsync.scim.sql import MAX_LENGTH, guard
from idsync.scim.tolerance.values import Rule

FilterRule = Rule[Callable[[str, Catalogue], str]]
_PARAMETERS = {
    name.lower(): name
    for name in ("filter", "attributes", "excludedAttributes", "sortBy", "sortOrder", "startIndex", "count", "cursor")
}
_INNER = re.compile(rf"\?(?=(?:{'|'.join(_PARAMETERS)})=)", re.IGNORECASE)
_COMPARISON = re.compile(
    r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(?<![\w$.:-])(?P<op>eq|ne|co|sw|ew|gt|ge|lt|le)\s++(?P<value>[^\s"()\[\]]++)',
    re.IGNORECASE | re.DOTALL,
)
_LAST_NAME = re.compile(r"(?<![\w$-])([A-Za-z$][\w$-]*+)\s*+\Z")


def read_query(raw: bytes, catalogue: Catalogue, *, strict: bool) -> dict[str, str]:
    """Read the query: `+` and `%20` are spaces, what is not SCIM's is ignored (`?aadOptscim062020`), so are stray `?`.

    Raises:
        InvalidValueException: a parameter is given twice, or is too long.
        InvalidFilterException: the filter is not UTF-8 or beyond its limits.
    """
    found: dict[str, str] = {}
    for name, value in parse_qsl(_INNER.sub("&", raw.decode("latin-1").lstrip("?&")), keep_blank_values=True):
        key = _PARAMETERS.get(name.lower())
        if key is None:
            continue
        if key in found:
            raise InvalidValueException(detail=f"{key} is given twice.")
        found[key] = value if key == "filter" else _short(key, value.rstrip("?"))
    if "\ufffd" in found.get("filter", ""):
        raise InvalidFilterException(detail="The filter is not UTF-8.")
    if "filter" in found:
        found["filter"] = filter_text(found["filter"], catalogue, strict=strict)
    return found


def _short(key: str, value: Any) -> Any:
    """Bound what names attributes: each is parsed as a path, and looked for in every answer."""
    if len(value if isinstance(value, str) else json.dumps(value)) > MAX_LENGTH:
        raise InvalidValueException(detail=f"{key} has at most {MAX_LENGTH} characters.")
    return value


def search_body(document: Any, catalogue: Catalogue, *, strict: bool) -> dict[str, Any]:
    """Put the filter of a POST .search (RFC 7644 §3.4.3) through the limits and rules a query has.

    Raises:
        InvalidSyntaxException: it is no object.
        InvalidFilterException: the filter is beyond its limits.
        InvalidValueException: another parameter is.
    """
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="A search request is a JSON object.")
    return {
        name: filter_text(value, catalogue, strict=strict)
        if name.lower() == "filter" and isinstance(value, str)
        else _short(name, value)
        for name, value in document.items()
    }


def _strip(text: str, catalogue: Catalogue) -> str:
    return text.rstrip("?& ")


def quote_values(text: str, catalogue: Catalogue) -> str:
    """Put quotes around bare words a filter or path compares with.

    null stays as it is, and true, false and numbers next to attributes that hold such values. So does a text in single
    quotes, for the grammar to refuse: with double ones around them it would be another text, which nobody has.
    """
    if not any(match["op"] for match in _COMPARISON.finditer(text)):
        return text
    return _COMPARISON.sub(lambda match: _quoted(text, match, catalogue), text)


def _quoted(text: str, match: re.Match[str], catalogue: Catalogue) -> str:
    value = match["value"]
    if value is None or value.lower() == "null" or value[0] == "'":
        return match[0]
    name = _LAST_NAME.search(text, max(0, match.start() - 300), match.start())
    if name is not None and name[1].lower() in catalogue.unquoted and _is_literal(value):
        return match[0]
    return match[0].removesuffix(value) + json.dumps(value, ensure_ascii=False)


def _is_literal(value: str) -> bool:
    try:
        return isinstance(json.loads(value.lower()), int | float)
    except ValueError:
        return False


FILTER_RULES: tuple[FilterRule, ...] = (
    Rule("a stray ? or & at the end", "OneLogin", _strip),
    Rule("values without quotes", "authentik after a 409, Microsoft's tutorial", quote_values),
)


def filter_text(text: str, catalogue: Catalogue, *, strict: bool) -> str:
    """Return a filter as RFC 7644 §3.4.2.2 spells it, with its limits checked before any grammar runs.

    Raises:
        InvalidFilterException: it is longer, deeper or has more terms than is served.
    """
    guard(text, InvalidFilterException)
    if not strict:
        for rule in FILTER_RULES:
            text = rule.apply(text, catalogue)
    return text
