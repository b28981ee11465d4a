"""Members a PATCH names by what their source calls them, put in terms of our ids before its operations are judged.

Operations are judged one after the other, by value: one may add by externalId whom the next removes by id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from scim2_models.path import AttrPath, CompareOperator, Comparison, FilterNode, LogicalExpr, Not, ValuePath

from idsync.store import directory
from idsync.store.db import Db

Meaning = Callable[[str], str]


class Meanings:
    """Returns the id of whom a value means in the group, or the value itself when that is nobody.

    A value that waits in this group stays as it is: to the operations it is a member of its own.
    """

    def __init__(self, db: Db, source: str, group_id: str) -> None:
        self._db = db
        self._source = source
        self._group_id = group_id

    @cached_property
    def _waiting(self) -> frozenset[str]:
        return frozenset(directory.pending_of(self._db, self._group_id))

    def __call__(self, value: str) -> str:
        found = directory.find_member(self._db, self._source, self._group_id, value)
        if found is None or found.id == value or value in self._waiting:
            return value
        return found.id


def by_id(patch: Any, meaning: Meaning) -> Any:
    """Return a PATCH of a group, as the core has read it, with every member in it under its id."""
    return patch.model_copy(update={"operations": [_operation(one, meaning) for one in patch.operations]})


def _operation(operation: Any, meaning: Meaning) -> Any:
    path = operation.path
    if path and path.value_filter is not None:
        return operation.model_copy(update={"path": _path(path, meaning)}) if _is_members(path.parts[0]) else operation
    return operation.model_copy(update={"value": _value(path or "", operation.value, meaning)})


def _path(path: Any, meaning: Meaning) -> Any:
    """Put `members[value eq "..."]` in terms of ids, also where it is spelled as errata 7122 of RFC 7644 allows."""
    head, _, sub = path.attr.partition(".")
    attribute = AttrPath(head, uri=path.schema)
    return type(path)(str(ValuePath(attribute, _filter(path.value_filter, meaning), sub or None)))


def _is_members(name: str) -> bool:
    return name.lower().rpartition(":")[2] == "members"


def _value(name: str, value: Any, meaning: Meaning) -> Any:
    """Do so with the members in what is written at an attribute, a schema or the whole group."""
    if _is_members(name):
        return [_entry(one, meaning) for one in value] if isinstance(value, list) else _entry(value, meaning)
    if isinstance(value, dict) and (not name or name.lower().startswith("urn:")):
        return {key: _value(key, one, meaning) if key else one for key, one in value.items()}
    return value


def _entry(entry: Any, meaning: Meaning) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: meaning(one) if key.lower() == "value" and isinstance(one, str) else one for key, one in entry.items()}


def _filter(node: FilterNode, meaning: Meaning) -> FilterNode:
    if isinstance(node, LogicalExpr):
        return replace(node, terms=tuple(_filter(term, meaning) for term in node.terms))
    if isinstance(node, Not):
        return replace(node, expr=_filter(node.expr, meaning))
    if isinstance(node, Comparison) and _compares_value(node):
        return replace(node, value=meaning(node.value))
    return node


def _compares_value(node: Comparison) -> bool:
    equal = node.op in (CompareOperator.eq, CompareOperator.ne)
    return equal and str(node.attr_path).lower() == "value" and isinstance(node.value, str)
