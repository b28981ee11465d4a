"""Records as SCIM documents, and back: what is kept of a resource, and the JSON that is answered from rows.

A stored document is JSON text already, so an answer is that text with id, groups, members and meta spliced in; no
model is built. RFC 7643 §3.1 has the common attributes, §2.5 makes an empty list and an absent one the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from scim2_models import InvalidValueException

from idsync.model import GroupFacts, UserFacts, fold
from idsync.scim.attributes import CORE, standard
from idsync.scim.provider import LIST_RESPONSE

LONGEST = 2000
"""Bytes of a name, an address or an id that a record is found by; a page of PostgreSQL's indexes takes 2,704 of a row."""
_DERIVED = frozenset({"id", "meta", "groups", "password"})
PLACES = {"User": "Users", "Group": "Groups"}


def etag(version: int) -> str:
    """Return the weak entity tag of a record (RFC 7644 §3.14)."""
    return f'W/"{version}"'


# -- in ----------------------------------------------------------------------------------------------------------


def user_facts(document: Mapping[str, Any], *, active: bool = True) -> UserFacts:
    """Return what a validated user document says; without `active` in it, the given one counts."""
    kept = {name: value for name, value in document.items() if name not in _DERIVED}
    kept.setdefault("active", active)
    if kept.get("externalId") == "":
        del kept["externalId"]
    for name in ("userName", "externalId"):
        bounded(name, kept.get(name))
    for entry in kept.get("emails") or ():
        bounded("emails.value", entry.get("value"))
    return UserFacts(
        user_name=kept["userName"],
        external_id=kept.get("externalId") or None,
        active=bool(kept["active"]),
        email=_email(kept.get("emails")),
        display_name=kept.get("displayName"),
        doc=kept,
    )


def _email(emails: Any) -> str | None:
    """Return the primary address, else the work one, else the first."""
    known = [one for one in emails or () if one.get("value")]
    known.sort(key=lambda one: (not one.get("primary"), str(one.get("type")).lower() != "work"))
    return str(known[0]["value"]) if known else None


def group_facts(document: Mapping[str, Any]) -> GroupFacts:
    """Return what a validated group document says, members aside."""
    kept = {name: value for name, value in document.items() if name not in _DERIVED and name != "members"}
    if kept.get("externalId") == "":
        del kept["externalId"]
    for name in ("displayName", "externalId"):
        bounded(name, kept.get(name))
    return GroupFacts(kept["displayName"], kept.get("externalId") or None, kept)


def member_ids(document: Mapping[str, Any]) -> list[str]:
    """Return the ids a group document lists, each once; none when it has no members (RFC 7644 §3.5.1)."""
    return [
        bounded("members.value", one)
        for one in dict.fromkeys(entry["value"] for entry in document.get("members") or ())
    ]


def bounded(name: str, value: Any) -> Any:
    """Return what a record is found by, if an index can hold it.

    Raises:
        InvalidValueException: it is too long.
    """
    if isinstance(value, str) and len(value) > LONGEST // 4 and max(_size(value), _size(fold(value))) > LONGEST:
        raise InvalidValueException(detail=f"{name} has at most {LONGEST} bytes.")
    return value


def _size(text: str) -> int:
    return len(text.encode())


# -- extensions that are not configured any more ---------------------------------------------------------------------


def visible(document: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return a stored document without the values of extensions that nobody can see now."""
    kept = {name: value for name, value in document.items() if name in known or not name.startswith("urn:")}
    kept["schemas"] = [urn for urn in document["schemas"] if urn in known]
    return kept


def kept_hidden(document: Mapping[str, Any], stored: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return a new document with what its client could not see of the stored one: it is there again once configured."""
    hidden = {name: value for name, value in stored.items() if name.startswith("urn:") and name not in known}
    return {**document, **hidden, "schemas": [*document["schemas"], *hidden]} if hidden else dict(document)


def _visible_text(text: str, known: frozenset[str]) -> str:
    """Do the same with JSON text, which begins with its schemas."""
    if _knows(text[: text.find("]") + 1], known):
        return text
    return compact(visible(json.loads(text), known))


@lru_cache(256)
def _knows(start: str, known: frozenset[str]) -> bool:
    return start.startswith('{"schemas":[') and known.issuperset(json.loads(start[11:]))


# -- out ---------------------------------------------------------------------------------------------------------


compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Write JSON without spaces; one encoder for all, as `json.dumps` builds one for every call."""


@lru_cache(8192)
def moment(at: float) -> str:
    """Write epoch seconds as the core writes a dateTime, in whole milliseconds (RFC 7643 §2.3.5)."""
    exact = datetime.fromtimestamp(at, UTC)
    return exact.replace(microsecond=exact.microsecond // 1000 * 1000).isoformat().replace("+00:00", "Z")


def location(base: str, kind: str, resource_id: str) -> str:
    """Return where a resource lives: always under the published base, never what the request named."""
    return f"{base}/{PLACES[kind]}/{resource_id}"


_text = json.encoder.encode_basestring
"""One string as JSON text; ids are ours, but what is spliced is always encoded."""


def meta(row: Mapping[str, Any], kind: str, base: str) -> str:
    """Return `meta` as JSON text."""
    return (
        f'{{"resourceType":"{kind}","created":"{moment(row["created_at"])}"'
        f',"lastModified":"{moment(row["updated_at"])}","location":{_text(location(base, kind, row["id"]))}'
        f',"version":"W/\\"{row["version"]}\\""}}'
    )


def groups_of(groups: Iterable[tuple[str, str, bool]], base: str) -> str:
    """Return `groups` of a user from (id, displayName, direct); nested groups are indirect (RFC 7643 §4.1.2)."""
    entries = [
        f'{{"value":{_text(one)},"$ref":{_text(location(base, "Group", one))},"display":{_text(name)}'
        f',"type":"{"direct" if direct else "indirect"}"}}'
        for one, name, direct in groups
    ]
    return ",".join(entries)


def members_of(rows: Iterable[Mapping[str, Any]], base: str) -> str:
    """Return `members` of a group from rows of member_id and member_type; `display` is for whoever asks for it."""
    start = {kind: _text(f"{base}/{place}/")[:-1] for kind, place in PLACES.items()}
    entries = [
        f'{{"value":{_text(one)},"$ref":{start[kind]}{_text(one)[1:]},"type":"{kind}"}}'
        for one, kind in ((row["member_id"], row["member_type"]) for row in rows)
    ]
    return ",".join(entries)


def render(
    row: Mapping[str, Any], kind: str, base: str, listed: str, known: frozenset[str], keep: Projection | None = None
) -> str:
    """Return a resource as JSON text; `row["doc"]` is text, `listed` its groups or members, `known` the schemas served."""
    name = "groups" if kind == "User" else "members"
    inner = f',"{name}":[{listed}]' if listed else ""
    whole = f'{_visible_text(row["doc"], known)[:-1]},"id":{_text(row["id"])}{inner},"meta":{meta(row, kind, base)}}}'
    return whole if keep is None else compact(keep.apply(json.loads(whole)))


def render_page(resources: Sequence[str], total: int, start: int | None, cursors: Mapping[str, str | None]) -> str:
    """Return a ListResponse: by number with startIndex (RFC 7644 §3.4.2), or with cursors (RFC 9865 §2)."""
    head = f'{{"schemas":["{LIST_RESPONSE}"],"totalResults":{total},"itemsPerPage":{len(resources)}'
    place = "" if start is None else f',"startIndex":{start}'
    further = "".join(f',"{name}":{_text(cursor)}' for name, cursor in cursors.items() if cursor)
    return f'{head}{place}{further},"Resources":[{",".join(resources)}]}}'


class Projection:
    """`attributes` or `excludedAttributes` in their simple form: whole attributes of the core schema (§3.9)."""

    _ALWAYS = frozenset({"id", "schemas"})

    def __init__(self, names: frozenset[str], *, excluding: bool) -> None:
        self.names = names
        self.excluding = excluding

    def wants(self, name: str) -> bool:
        """Tell whether an attribute is answered; only then is it worth reading."""
        return name in self._ALWAYS or (name.lower() in self.names) != self.excluding

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in document.items() if self.wants(name)}
        kept["schemas"] = [schema for schema in kept["schemas"] if schema in kept or schema in CORE.values()]
        return kept


@cache
def _simple(kind: str) -> frozenset[str]:
    return frozenset({*standard().table(CORE[kind]), "id", "meta", "schemas"})


def projection(query: Mapping[str, str], kind: str) -> tuple[Projection | None, bool]:
    """Return the projection a query asks for, and whether it is one that rows can serve."""
    only, without = query.get("attributes"), query.get("excludedAttributes")
    if only is None and without is None:
        return None, True
    given = [name.strip() for name in (only or without or "").split(",") if name.strip()]
    names = [name.lower() for name in given]
    simple = bool(names) and all(map(str.isascii, given)) and _simple(kind).issuperset(names)
    if not simple or (only and without) or (without and "id" in names):
        return None, False
    return Projection(frozenset(names), excluding=not only), True
