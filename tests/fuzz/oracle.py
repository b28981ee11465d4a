"""What a filter means (RFC 7644 §3.4.2.2) over the JSON documents that GET answers: no model, no parser, no SQL.

Where the RFC is silent, this is what is meant, as in scim2-models' `ScimFilter.match`:

- `ne` on several values holds when no value equals; every other operator when any value does;
- an attribute that is not there compares as null: equal to null, unequal to anything else, neither before nor after;
- an empty text is a value (`eq ""`) but is not present (`pr`); false is present;
- an entry of a list without the sub-attribute that is compared holds null there;
- text of an attribute that is case exact is compared character by character;
- text of an attribute that is not is compared without its case. How case is taken away, and whether composed
  and decomposed characters are the same, the RFC leaves open: a `Folding` is one choice, and a result has to be right
  under one of them. Names that identify (userName, a group's displayName) are case-folded, as this service says.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fuzz.filters import Compare, Filter, Join, Name, Not, Present, Select

Document = Mapping[str, Any]
_TIMES = {("meta", "created"), ("meta", "lastmodified")}
_EXACT = {("id", ""), ("externalid", ""), ("meta", "resourcetype"), ("meta", "location"), ("meta", "version")}
"""Common attributes, which no schema publishes (RFC 7643 §3.1): these are case exact."""


@dataclass(frozen=True)
class Folding:
    """How text that is not case exact is compared."""

    case: Callable[[str], str]
    form: Callable[[str], str]

    def folded(self, text: str) -> str:
        return self.form(self.case(self.form(text)))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _as_it_is(text: str) -> str:
    return text


FOLDINGS = tuple(Folding(case, form) for case in (str.casefold, str.lower) for form in (_composed, _as_it_is))


class Oracle:
    """Evaluates filters over documents of one resource type, as its published schemas describe it."""

    def __init__(self, schemas: list[Any], kind: str) -> None:
        self._kind = kind
        self._exact = set(_EXACT)
        for schema in schemas:
            for attribute in schema["attributes"]:
                self._learn(attribute, "")
                for sub in attribute.get("subAttributes", ()):
                    self._learn(sub, attribute["name"].lower())

    def _learn(self, attribute: Any, parent: str) -> None:
        if attribute.get("caseExact") and attribute["type"] in ("string", "reference"):
            name = attribute["name"].lower()
            self._exact.add((parent, name) if parent else (name, ""))

    # -- filters -----------------------------------------------------------------------------------------------------

    def results(self, node: Filter, documents: list[Document]) -> Iterator[list[str]]:
        """Yield the ids of what matches, in the order of the documents, under each folding."""
        for folding in FOLDINGS:
            yield [str(one["id"]) for one in documents if self.matches(node, one, folding)]

    def matches(self, node: Filter, document: Document, folding: Folding, parent: str = "") -> bool:
        if isinstance(node, Join):
            every = all if node.word == "and" else any
            return every(self.matches(term, document, folding, parent) for term in node.terms)
        if isinstance(node, Not):
            return not self.matches(node.inner, document, folding, parent)
        if isinstance(node, Select):
            attribute = node.name.attribute
            entries = document.get(attribute) or ()
            return any(self.matches(node.inner, entry, folding, attribute.lower()) for entry in entries)
        if isinstance(node, Present):
            return _present(read(document, node.name))
        return self._compares(node, document, folding, parent)

    def _compares(self, node: Compare, document: Document, folding: Folding, parent: str) -> bool:
        name = node.name
        found = read(document, name)
        if isinstance(found, list) and found and isinstance(found[0], dict):
            name = Name(name.attribute, "value", name.schema)
            found = read(document, name)
        prepare = self.preparation(name, folding, parent)
        wanted = prepare(node.operand)
        if not isinstance(found, list):
            return _holds(node.operator, prepare(found), wanted)
        every = all if node.operator == "ne" else any
        return every(_holds(node.operator, prepare(one), wanted) for one in found)

    def preparation(self, name: Name, folding: Folding, parent: str = "") -> Callable[[Any], Any]:
        """Return what makes two values of an attribute comparable."""
        key = (parent, name.attribute.lower()) if parent else (name.attribute.lower(), name.sub.lower())
        if key in _TIMES:
            return lambda value: None if value is None else datetime.fromisoformat(value)
        if key == ("username", "") or (key == ("displayname", "") and self._kind == "Group"):
            folding = replace(folding, case=str.casefold)
        text = _as_it_is if key in self._exact else folding.folded
        return lambda value: text(value) if isinstance(value, str) else value


def read(document: Document, name: Name) -> Any:
    """Return the value at a name; with several entries, a list with one value for each, None where it has none."""
    holder: Any = document.get(name.schema) or {} if name.schema else document
    head = next((value for key, value in holder.items() if key.lower() == name.attribute.lower()), None)
    if not name.sub or head is None:
        return head or None if isinstance(head, list) else head
    if isinstance(head, list):
        return [entry.get(name.sub) for entry in head] or None
    return head.get(name.sub)


def _present(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_present, value))
    if isinstance(value, dict):
        return any(map(_present, value.values()))
    return value is not None and value != ""


def _holds(operator: str, found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return {"eq": found is wanted, "ne": found is not wanted}.get(operator, False)
    tests: dict[str, Callable[[], bool]] = {
        "eq": lambda: found == wanted,
        "ne": lambda: found != wanted,
        "co": lambda: wanted in found,
        "sw": lambda: found.startswith(wanted),
        "ew": lambda: found.endswith(wanted),
        "gt": lambda: found > wanted,
        "ge": lambda: found >= wanted,
        "lt": lambda: found < wanted,
        "le": lambda: found <= wanted,
    }
    return tests[operator]()


# -- orders (RFC 7644 §3.4.2.3) ------------------------------------------------------------------------------------


def sort_value(document: Document, name: Name) -> Any:
    """Return what a document is sorted by: of several entries the primary one's value, else the first one's."""
    holder: Any = document.get(name.schema) or {} if name.schema else document
    head = holder.get(name.attribute)
    if isinstance(head, list):
        head = next((entry for entry in head if entry.get("primary")), head[0]) if head else None
        return None if head is None else head.get(name.sub or "value")
    return head.get(name.sub) if name.sub and head is not None else head


def in_order(values: list[Any], *, descending: bool) -> bool:
    """Tell whether prepared values are sorted: missing ones last when ascending and first when descending."""
    keys = [(value is None, "" if value is None else value) for value in values]
    way = itertools.pairwise(reversed(keys) if descending else keys)
    return all(one[0] < other[0] or (one[0] == other[0] and one[1] <= other[1]) for one, other in way)


# -- projections (RFC 7644 §3.9) -----------------------------------------------------------------------------------

_ALWAYS = frozenset({"id", "schemas"})


def projected(document: Document, names: list[Name], *, excluding: bool) -> dict[str, Any]:
    """Return a document with some attributes only, or without some."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key in _ALWAYS:
            found[key] = value
        elif key.startswith("urn:"):
            inner = [Name(one.attribute, one.sub) for one in names if one.schema == key]
            parts = {name: _part(name, one, inner, excluding=excluding) for name, one in value.items()}
            found[key] = {name: one for name, one in parts.items() if _keeps(one)}
        else:
            found[key] = _part(key, value, [one for one in names if not one.schema], excluding=excluding)
    found = {key: value for key, value in found.items() if _keeps(value)}
    found["schemas"] = [urn for urn in document["schemas"] if urn in found or ":core:" in urn]
    return found


def _keeps(value: Any) -> bool:
    return value not in (None, {}, [])


def _part(key: str, value: Any, names: list[Name], *, excluding: bool) -> Any:
    mine = [one for one in names if one.attribute.lower() == key.lower()]
    if any(not one.sub for one in mine):
        return None if excluding else value
    subs = {one.sub for one in mine}
    if not subs:
        return value if excluding else None
    if isinstance(value, list):
        return [kept for entry in value if (kept := _entry(entry, subs, excluding=excluding))]
    return _entry(value, subs, excluding=excluding)


def _entry(entry: Document, subs: set[str], *, excluding: bool) -> dict[str, Any]:
    return {name: one for name, one in entry.items() if (name in subs) != excluding}
