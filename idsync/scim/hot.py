"""Recognise the requests that make up nearly all traffic and need no core.

The core takes 224-390 ms to add one member to a group of 2,000, because it builds every member as a model; rows take
a few milliseconds whatever the size. What is not recognised here, and only that, goes through the core.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from idsync.scim.attributes import Catalogue, Target
from idsync.scim.provider import MAX_MEMBERS, MAX_OPERATIONS

_ONE_MEMBER = re.compile(
    r'members\[[ \t\f\r\n]*value[ \t\f\r\n]+eq[ \t\f\r\n]+("(?:[^"\\]|\\.)*")[ \t\f\r\n]*\]', re.IGNORECASE | re.ASCII
)
_EQUALS = re.compile(
    r'[ \t\f\r\n]*([A-Za-z]+)[ \t\f\r\n]+eq[ \t\f\r\n]+("(?:[^"\\]|\\.)*")[ \t\f\r\n]*', re.IGNORECASE | re.ASCII
)
_ENTRY = frozenset({"value", "type", "$ref", "display"})


@dataclass(frozen=True)
class GroupChange:
    """What a PATCH of a group comes to: `everyone` is the whole new list, or None when members come and go singly.

    `steps` is how it comes to that, operation by operation.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    everyone: tuple[str, ...] | None = None
    display_name: str | None = None
    external_id: str | None = None
    steps: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), compare=False)

    @property
    def renames(self) -> bool:
        return self.display_name is not None or self.external_id is not None

    def in_terms_of(self, meaning: Callable[[str], str]) -> GroupChange:
        """Return the same change with each member under one name: the last word on them counts, whatever they are called.

        Where all operations do the same, their order says nothing and the names are left to the intake.
        """
        if len({op for op, _ in self.steps}) < 2:
            return self
        tally = _Tally()
        for op, values in self.steps:
            tally.count(op, [meaning(value) for value in values])
        return replace(tally.change(), display_name=self.display_name, external_id=self.external_id)


class _Tally:
    """The effect of operations one after the other: the last word on each member counts."""

    def __init__(self) -> None:
        self.everyone: dict[str, None] | None = None
        self.last: dict[str, bool] = {}
        self.named: dict[str, str] = {}
        self.steps: list[tuple[str, tuple[str, ...]]] = []

    def count(self, op: str, ids: Sequence[str]) -> None:
        self.steps.append((op, tuple(ids)))
        if op == "add":
            self._add(ids)
        elif op == "remove":
            self._remove(ids)
        else:
            self._replace(ids)

    def _add(self, ids: Sequence[str]) -> None:
        for one in ids:
            if self.everyone is not None:
                self.everyone[one] = None
            else:
                self.last.pop(one, None)
                self.last[one] = True

    def _remove(self, ids: Sequence[str]) -> None:
        for one in ids:
            if self.everyone is not None:
                self.everyone.pop(one, None)
            else:
                self.last.pop(one, None)
                self.last[one] = False

    def _replace(self, ids: Sequence[str]) -> None:
        self.everyone = dict.fromkeys(ids)
        self.last.clear()

    def change(self) -> GroupChange:
        return GroupChange(
            add=tuple(one for one, there in self.last.items() if there),
            remove=tuple(one for one, there in self.last.items() if not there),
            everyone=None if self.everyone is None else tuple(self.everyone),
            display_name=self.named.get("displayName"),
            external_id=self.named.get("externalId"),
            steps=tuple(self.steps),
        )


def group_change(ops: Sequence[Mapping[str, Any]]) -> GroupChange | None:
    """Return what a PATCH does to a group when it touches members, displayName and externalId only; else None."""
    tally = _Tally()
    for op in ops:
        if not _count(tally, op):
            return None
    return tally.change()


def _count(tally: _Tally, op: Mapping[str, Any]) -> bool:
    name, path, value = op.get("op"), op.get("path"), op.get("value")
    if not isinstance(path, str) or not op.keys() <= {"op", "path", "value"}:
        return False
    if path == "members":
        return _count_members(tally, name, value, given="value" in op)
    if path in ("displayName", "externalId"):
        if name not in ("add", "replace") or not isinstance(value, str) or not value:
            return False
        tally.named[path] = value
        return True
    match = _ONE_MEMBER.fullmatch(path)
    if match is None or name != "remove" or "value" in op:
        return False
    return _remove_one(tally, match[1])


def _remove_one(tally: _Tally, literal: str) -> bool:
    if "\\u" in literal:
        return False
    try:
        one = json.loads(literal)
        one.encode()
        tally.count("remove", [one])
    except ValueError:
        return False
    return True


def _count_members(tally: _Tally, name: Any, value: Any, *, given: bool) -> bool:
    if name == "remove":
        if not given:
            tally.count("replace", ())
        return not given
    ids = _ids(value)
    if ids is None or name not in ("add", "replace"):
        return False
    tally.count(name, ids)
    return True


def _ids(value: Any) -> list[str] | None:
    if not isinstance(value, list):
        return None
    ids: list[str] = []
    for entry in value:
        one = entry.get("value") if isinstance(entry, dict) and entry.keys() <= _ENTRY else None
        if not isinstance(one, str) or not one or not all(isinstance(value, str) for value in entry.values()):
            return None
        ids.append(one)
    return ids


def plain(document: Any, kind: str) -> list[dict[str, Any]] | None:
    """Return the operations of a PATCH that needs no tolerance and has one of the shapes below; else None.

    It is judged as it came, which spares the frequent shapes the rules they would pass unchanged.
    """
    ops = document.get("Operations") if isinstance(document, dict) else None
    if not isinstance(ops, list) or not ops or len(ops) > MAX_OPERATIONS or not all(isinstance(op, dict) for op in ops):
        return None
    if kind == "User":
        return ops if active(ops) is not None else None
    if sum(len(op["value"]) for op in ops if isinstance(op.get("value"), list)) > MAX_MEMBERS:
        return None
    return ops if group_change(ops) is not None else None


def active(ops: Sequence[Mapping[str, Any]]) -> bool | None:
    """Return the new value when a PATCH of a user sets `active` and nothing else; else None."""
    if len(ops) != 1 or ops[0].get("op") not in ("add", "replace") or not ops[0].keys() <= {"op", "path", "value"}:
        return None
    path, value = ops[0].get("path"), ops[0].get("value")
    if path is None and isinstance(value, dict) and list(value) == ["active"]:
        path, value = "active", value["active"]
    return value if path == "active" and isinstance(value, bool) else None


@dataclass(frozen=True)
class Setting:
    """A value of one plain text attribute; `urn` is "" for the core schema, `sub` for an attribute by itself."""

    urn: str
    name: str
    sub: str
    value: str | bool


def settings(ops: Sequence[Mapping[str, Any]], catalogue: Catalogue, strict: bool = False) -> list[Setting] | None:
    """Return what a PATCH of a user sets when all of it is `active` or single texts, as Entra sends them; else None."""
    found: list[Setting] = []
    for op in ops:
        path, value = op.get("path"), op.get("value")
        if (
            op.get("op") not in ("add", "replace")
            or not isinstance(path, str)
            or not op.keys() <= {"op", "path", "value"}
        ):
            return None
        if path == "active" and isinstance(value, bool):
            found.append(Setting("", "active", "", value))
            continue
        target = catalogue.target_of(path, "User")
        if strict and str(target).lower() != path.lower():
            return None
        if not isinstance(target, Target) or not _is_text(target) or not isinstance(value, str) or not value:
            return None
        found.append(Setting(target.urn, target.attribute.name, target.sub.name if target.sub else "", value))
    return found


def _is_text(target: Target) -> bool:
    """Tell whether a target is one text that anybody may write: no list, no reference, nothing read-only."""
    attribute, leaf = target.attribute, target.leaf
    single = not (target.filter or attribute.multi or leaf.multi)
    return single and leaf.type == "string" and not (attribute.read_only or leaf.read_only)


def settled(document: Mapping[str, Any], wanted: Sequence[Setting]) -> dict[str, Any]:
    """Return a stored user document with these values in it."""
    made = dict(document)
    for one in wanted:
        place = made
        if one.urn:
            place = made[one.urn] = dict(made.get(one.urn) or {})
            made["schemas"] = list(dict.fromkeys([*made["schemas"], one.urn]))
        if one.sub:
            place[one.name] = {**(place.get(one.name) or {}), one.sub: one.value}
        else:
            place[one.name] = one.value
    return made


def equality(text: str) -> tuple[str, str] | None:
    """Return (attribute, value) of a filter that is one `eq` with a quoted text; else None."""
    match = _EQUALS.fullmatch(text)
    if match is None:
        return None
    try:
        return match[1].lower(), json.loads(match[2])
    except ValueError:
        return None
