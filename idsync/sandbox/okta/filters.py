"""Okta's filter and search expressions, compiled to predicates."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from idsync.sandbox.idp.jsontext import moment

Predicate = Callable[[Any], bool]
Getter = Callable[[Any], Any]
Lookup = Callable[[str], tuple[Getter, bool] | None]  # attribute -> how to read it, and whether it is a time

_TOKEN = re.compile(r'\s*(\(|\)|"(?:[^"\\]|\\.)*"|[^\s()"]+)')
_BLANK = re.compile(r'\s+(?=(?:[^"]*"[^"]*")*[^"]*$)')  # outside of quotes
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "sw": lambda value, wanted: value.startswith(wanted),
    "co": lambda value, wanted: wanted in value,
}


class Invalid(ValueError):
    """Not an expression Okta takes."""


def compiled(expression: str, lookup: Lookup, *, loose: bool = False) -> Predicate:
    """`loose` is `search`, and the log's filter: more operators than `eq` for texts. Raises Invalid."""
    tokens = _TOKEN.findall(expression)
    if len("".join(tokens)) < len(_BLANK.sub("", expression)):
        raise Invalid(expression)
    parser = _Parser(tokens, lookup, loose)
    found = parser.either()
    if parser.rest:
        raise Invalid(expression)
    return found


class _Parser:
    def __init__(self, tokens: list[str], lookup: Lookup, loose: bool) -> None:
        self.rest = tokens[::-1]
        self._lookup = lookup
        self._loose = loose

    def either(self) -> Predicate:
        terms = [self._both()]
        while self._next_is("or"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else lambda item: any(term(item) for term in terms)

    def _both(self) -> Predicate:
        terms = [self._term()]
        while self._next_is("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda item: all(term(item) for term in terms)

    def _term(self) -> Predicate:
        first = self._take()
        if first == "(":
            inner = self.either()
            if self._take() != ")":
                raise Invalid("a bracket is open")
            return inner
        known = self._lookup(first)
        if known is None:
            raise Invalid(first)
        get, is_time = known
        verb = self._take().lower()
        if verb == "pr" and self._loose:
            return lambda item: get(item) is not None
        value = self._take()
        if not value.startswith('"'):
            raise Invalid(value)
        return self._compare(get, verb, value[1:-1].replace('\\"', '"'), is_time)

    def _compare(self, get: Getter, verb: str, value: str, is_time: bool) -> Predicate:
        if verb == "eq" and not is_time:
            return lambda item: get(item) == value
        if is_time and verb in _ORDER:
            compare, point = _ORDER[verb], _point(value)
            return lambda item: compare(get(item) or 0.0, point)
        if self._loose and verb in _TEXT:
            matches, lowered = _TEXT[verb], value.lower()
            return lambda item: matches(str(get(item) or "").lower(), lowered)
        raise Invalid(verb)

    def _next_is(self, word: str) -> bool:
        if self.rest and self.rest[-1].lower() == word:
            self.rest.pop()
            return True
        return False

    def _take(self) -> str:
        if not self.rest:
            raise Invalid("it ends too early")
        return self.rest.pop()


def _point(value: str) -> float:
    try:
        return moment(value)
    except ValueError:
        raise Invalid(value) from None
