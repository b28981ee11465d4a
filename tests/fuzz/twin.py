"""A directory as plain dictionaries: what a source must see after everything it sent, however it spelled it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.endpoint import ENTERPRISE, GROUP, USER

Document = dict[str, Any]
Effect = Callable[[Document], None]


class Refused(Exception):
    """A request that has to be answered with this status, and to change nothing.

    A stale condition (412) may be noticed after other faults, or before them.
    """

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)
        self.statuses = {400, 409, 412} if status == 412 else {status}


# -- what operations do to a document (RFC 7644 §3.5.2) --------------------------------------------------------------


def put(name: str, value: Any) -> Effect:
    """Set an attribute, or a sub-attribute by its dotted name, or one of the enterprise extension."""

    def effect(document: Document) -> None:
        if name.startswith(f"{ENTERPRISE}:"):
            document.setdefault(ENTERPRISE, {})[name.removeprefix(f"{ENTERPRISE}:")] = copy.deepcopy(value)
        elif "." in name:
            parent, _, sub = name.partition(".")
            document.setdefault(parent, {})[sub] = value
        else:
            document[name] = copy.deepcopy(value)

    return effect


def drop(name: str) -> Effect:
    def effect(document: Document) -> None:
        if name.startswith(f"{ENTERPRISE}:"):
            document.get(ENTERPRISE, {}).pop(name.removeprefix(f"{ENTERPRISE}:"), None)
        elif "." in name:
            parent, _, sub = name.partition(".")
            document.get(parent, {}).pop(sub, None)
        else:
            document.pop(name, None)

    return effect


def refuse(status: int = 400) -> Effect:
    def effect(document: Document) -> None:
        raise Refused(status)

    return effect


def nothing(document: Document) -> None:
    """Change nothing, with success."""


def _with_one_primary(change: Effect) -> Effect:
    """Keep what was just marked primary as the only primary entry (RFC 7643 §2.4)."""

    def effect(document: Document) -> None:
        before = {id(one) for one in document.get("emails", ()) if one.get("primary")}
        change(document)
        entries = document.get("emails", [])
        primary = [one for one in entries if one.get("primary")]
        marked = [one for one in primary if id(one) not in before]
        if len(marked) > 1:
            raise Refused
        for one in primary:
            if marked and one is not marked[0]:
                one["primary"] = False

    return effect


def replace_emails(entries: list[Document]) -> Effect:
    return _with_one_primary(put("emails", entries))


def add_emails(entries: list[Document]) -> Effect:
    """Append what is not there yet."""

    def change(document: Document) -> None:
        there = document.get("emails", [])
        document["emails"] = there + [copy.deepcopy(one) for one in entries if one not in there]

    return _with_one_primary(change)


def _of_type(document: Document, kind: str) -> list[Document]:
    return [one for one in document.get("emails", ()) if one.get("type") == kind]


def remove_emails(kind: str) -> Effect:
    def effect(document: Document) -> None:
        gone = _of_type(document, kind)
        document["emails"] = [one for one in document.get("emails", ()) if one not in gone]

    return effect


def set_email(kind: str, fields: Document, *, creates: bool) -> Effect:
    """Write into the entries of a type; where there is none, make one if the source is a tolerant one."""

    def change(document: Document) -> None:
        found = _of_type(document, kind)
        if not found and not creates:
            raise Refused
        if not found:
            found = [{"type": kind}]
            document.setdefault("emails", []).extend(found)
        for one in found:
            one.update(fields)

    return _with_one_primary(change)


def _tidy(value: Any) -> Any:
    """Drop what holds nothing (RFC 7643 §2.5)."""
    if isinstance(value, dict):
        found = {name: _tidy(one) for name, one in value.items()}
        return {name: one for name, one in found.items() if one not in ({}, [], None)}
    return [_tidy(one) for one in value] if isinstance(value, list) else value


# -- the directory -------------------------------------------------------------------------------------------------


@dataclass
class Twin:
    """Users and groups by id; the members of a group are a set of ids beside it."""

    users: dict[str, Document] = field(default_factory=dict)
    groups: dict[str, Document] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)

    def put_user(self, one: str, document: Document) -> None:
        """Keep a user; an inactive one that gets another externalId is somebody else, who inherits no groups."""
        before, self.users[one] = self.users.get(one, {"active": True}), _tidy(document)
        known, given = before.get("externalId"), document.get("externalId")
        if not before["active"] and known and given and known != given:
            for ids in self.members.values():
                ids.discard(one)

    def put_group(self, one: str, document: Document, members: set[str]) -> None:
        self.groups[one] = _tidy(document)
        self.members[one] = self._known(members)

    def is_taken(self, kind: str, name: str, own: str | None = None) -> bool:
        """Tell whether a userName or displayName is in use, whatever its letter case."""
        documents, attribute = (self.users, "userName") if kind == "Users" else (self.groups, "displayName")
        return any(name.casefold() == one[attribute].casefold() for key, one in documents.items() if key != own)

    def changed_user(self, one: str, effects: list[Effect]) -> None:
        """Apply every effect or none."""
        document = copy.deepcopy(self.users[one])
        for effect in effects:
            effect(document)
        if self.is_taken("Users", document["userName"], one):
            raise Refused(409)
        self.put_user(one, document)

    def changed_group(self, one: str, effects: list[Effect]) -> None:
        """As for users; the document an effect sees holds the ids of the members as a set."""
        document = {**copy.deepcopy(self.groups[one]), "members": set(self.members[one])}
        for effect in effects:
            effect(document)
        if self.is_taken("Groups", document["displayName"], one):
            raise Refused(409)
        self.members[one] = self._known(document.pop("members"))
        self.groups[one] = _tidy(document)

    def _known(self, ids: set[str]) -> set[str]:
        """Leave out ids of nobody: they wait for their user, unseen."""
        return {one for one in ids if one in self.users or one in self.groups}

    def delete(self, one: str) -> None:
        self.users.pop(one, None)
        self.groups.pop(one, None)
        self.members.pop(one, None)
        for ids in self.members.values():
            ids.discard(one)

    # -- what GET shows ----------------------------------------------------------------------------------------------

    def shown_user(self, one: str, base: str) -> Document:
        around = self._around(one)
        groups = {
            self._entry(group, base, type="direct" if direct else "indirect", display=self.groups[group]["displayName"])
            for group, direct in around
        }
        schemas = [USER, *(urn for urn in (ENTERPRISE,) if urn in self.users[one])]
        return {**self.users[one], "schemas": schemas, "id": one, "groups": groups}

    def shown_group(self, one: str, base: str) -> Document:
        entries = {self._entry(key, base, type="User" if key in self.users else "Group") for key in self.members[one]}
        return {**self.groups[one], "schemas": [GROUP], "id": one, "members": entries}

    def _around(self, member: str) -> list[tuple[str, bool]]:
        """Return the groups a member is in, itself or through others."""
        direct = [group for group, ids in self.members.items() if member in ids]
        every, waiting = set(direct), list(direct)
        while waiting:
            inner = waiting.pop()
            outer = [group for group, ids in self.members.items() if inner in ids and group not in every]
            every |= set(outer)
            waiting += outer
        return [(group, group in direct) for group in every]

    def _entry(self, one: str, base: str, **more: str) -> tuple[tuple[str, str], ...]:
        place = "Users" if one in self.users else "Groups"
        return entry({"value": one, "$ref": f"{base}/{place}/{one}", **more})


def entry(document: Document) -> tuple[tuple[str, str], ...]:
    """Return an entry of a list whose order says nothing, for a set."""
    return tuple(sorted(document.items()))
