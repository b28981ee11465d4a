"""The short cuts: frequent reads answered from rows, frequent writes without building a model.

Everything here gives the answer the core would give; what is not exactly one of these shapes goes through the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from scim2_models import MutabilityException, SearchRequest

from idsync.model import Group, User
from idsync.scim import hot, sql
from idsync.scim.documents import (
    Projection,
    bounded,
    compact,
    etag,
    group_facts,
    groups_of,
    kept_hidden,
    location,
    member_ids,
    members_of,
    projection,
    render,
    render_page,
    user_facts,
)
from idsync.scim.provider import MAX_PAGE, PAGE, SMALL_GROUP
from idsync.store import directory
from idsync.store.db import Db, Row
from idsync.web.scim_members import Meanings
from idsync.web.scim_messages import Call, Reply
from idsync.web.scim_search import Search, find
from idsync.web.scim_search import count as count_rows
from idsync.web.scim_storage import Intake, live_group, live_user, not_found, unique_names

LARGE = 16 * 1024
"""Characters from which on an answer is worth keeping."""
LONG = 500
"""Members from which on a thread renders an answer."""
KEPT = 16 * 1024 * 1024
"""Characters of answers that are kept for a source."""
_COLUMN_FILTERS = {"User": {"username", "externalid", "id"}, "Group": {"displayname", "externalid", "id"}}

Seal = Callable[[Any], str | None]


class Shelf:
    """What is kept of one source, as long as nothing of it changes."""

    def __init__(self, room: int) -> None:
        self._kept: dict[tuple[str, str], Any] = {}
        self._room = room

    def find(self, kind: str, key: str) -> Any:
        return self._kept.get((kind, key))

    def keep(self, kind: str, key: str, value: Any, size: int = 64) -> None:
        """Keep a value of about `size` characters, unless the source's share is used up."""
        if size <= self._room:
            self._kept[kind, key] = value
            self._room -= size


class Memory:
    """Answers that cost much and are asked for often, kept until their source changes anything.

    A source's records change through this endpoint alone (promise 12), so its own commits are all there is to watch.
    A reader takes the shelf before its snapshot: when a change is committed meanwhile, it fills one that nobody uses.
    Where other processes change the same records nothing is kept: their commits are not seen from here.
    """

    def __init__(self, *, shared: bool) -> None:
        self._room = 0 if shared else KEPT
        self._shelves: dict[str, Shelf] = {}

    def of(self, source: str) -> Shelf:
        return self._shelves.setdefault(source, Shelf(self._room))

    def forget(self, source: str) -> None:
        """Drop everything that is kept of a source; safe from any thread."""
        self._shelves.pop(source, None)


# -- reads -------------------------------------------------------------------------------------------------------


def read(db: Db, call: Call, memory: Memory) -> Reply | None:
    """Answer GET of one resource or of a simple list, or None when it is for the core."""
    keep, simple = projection(call.query, call.kind)
    if not simple:
        return None
    shelf = memory.of(call.source)
    with db.snapshot() as then:
        if call.resource_id is not None:
            return _get(then, call, keep, shelf)
        return _list(then, call, keep, shelf)


def is_long(db: Db, call: Call, memory: Memory) -> bool:
    """Tell whether an answer holds so many members that the event loop must not wait for it: then a thread reads."""
    if call.kind != "Group":
        return False
    keep, simple = projection(call.query, call.kind)
    if not simple or not (keep is None or keep.wants("members")):
        return False
    if call.resource_id is None:
        return True
    kept = keep is None and memory.of(call.source).find("body", call.resource_id) is not None
    return not kept and directory.has_more_members_than(db, call.resource_id, LONG)


def _get(db: Db, call: Call, keep: Projection | None, shelf: Shelf) -> Reply:
    row = directory.scim_row(db, call.kind, call.source, call.resource_id or "")
    if row is None:
        raise not_found(call.kind)
    tag = etag(row["version"])
    if not call.conditions.check(tag, "GET"):
        return Reply(HTTPStatus.NOT_MODIFIED, None, {"ETag": tag})
    version, body = (shelf.find("body", row["id"]) if keep is None else None) or (None, None)
    if version != row["version"]:  # a change that is on disk and not forgotten yet
        body = _render(db, [row], call, keep)[0].encode()
        if keep is None and len(body) > LARGE:
            shelf.keep("body", row["id"], (row["version"], body), len(body))
    return Reply(HTTPStatus.OK, body, _headers(call, row["id"], row["version"]))


def _headers(call: Call, resource_id: str, version: int) -> dict[str, str]:
    return {"ETag": etag(version), "Content-Location": location(call.base, call.kind, resource_id)}


def _render(db: Db, rows: Any, call: Call, keep: Projection | None) -> list[str]:
    if call.kind == "User":
        wanted = keep is None or keep.wants("groups")
        groups = directory.group_names_of(db, [row["id"] for row in rows]) if wanted else {}
        return [
            render(row, "User", call.base, groups_of(groups.get(row["id"], ()), call.base), call.known, keep)
            for row in rows
        ]
    wanted = keep is None or keep.wants("members")
    return [
        render(
            row,
            "Group",
            call.base,
            members_of(directory.scim_members(db, row["id"]), call.base) if wanted else "",
            call.known,
            keep,
        )
        for row in rows
    ]


def _list(db: Db, call: Call, keep: Projection | None, shelf: Shelf) -> Reply | None:
    condition = _condition(call)
    window = _window(call.query)
    if condition is None or window is None:
        return None
    start, count = window
    if condition.text == sql.ANY:
        rows = _page(db, call, start, count, shelf)
    else:  # by id: by time the planner would leave the index of an eq
        rows = directory.scim_page(
            db, call.kind, call.source, condition.text, condition.params, limit=count, offset=start - 1, order="id"
        )
    complete = start == 1 and len(rows) < count
    total = len(rows) if complete else _total(db, call, condition, shelf)
    return Reply(HTTPStatus.OK, render_page(_render(db, rows, call, keep), total, start, {}))


def _page(db: Db, call: Call, start: int, count: int, shelf: Shelf) -> Sequence[Row]:
    """Read a page of everything. An import asks for one after the other: where a page ended, the next begins.

    The place is kept only until the source changes anything, so that pages are the same as those by OFFSET.
    """
    place = shelf.find("place", f"{call.kind}:{start}")
    where, params, offset = (sql.ANY, {}, start - 1) if place is None else (sql.IN_ORDER.beyond(), place, 0)
    rows = directory.scim_page(
        db, call.kind, call.source, where, params, limit=count, offset=offset, order=sql.IN_ORDER.text()
    )
    if len(rows) == count > 0:
        ended = {"k0": rows[-1]["created_at"], "k1": rows[-1]["id"]}
        shelf.keep("place", f"{call.kind}:{start + count}", ended)
    return rows


def _total(db: Db, call: Call, condition: sql.Where, shelf: Shelf) -> int:
    """Count the matches; the number of all records is kept, as an import asks for it with every page."""
    known = shelf.find("total", call.kind) if condition.text == sql.ANY else None
    if isinstance(known, int):
        return known
    total = count_rows(db, call.source, call.kind, condition)
    if condition.text == sql.ANY:
        shelf.keep("total", call.kind, total)
    return total


def search(db: Db, call: Call, request: SearchRequest[Any], position: Any, seal: Seal) -> Reply | None:
    """Answer a search that the database can do alone from rows, or return None when it is for the core.

    `request` was validated by the core; `seal` turns the position of a page into its cursor.
    """
    asked = Search.of([call.kind], request)
    keep, simple = projection(
        {
            name: ",".join(map(str, paths))
            for name, paths in (("attributes", request.attributes), ("excludedAttributes", request.excluded_attributes))
            if paths
        },
        call.kind,
    )
    if not simple or not asked.in_sql:
        return None
    found = find(db, call.source, asked, request, position)
    start = None if request.cursor is not None else (request.start_index or 1)
    cursors = {"nextCursor": seal(found.next), "previousCursor": seal(found.previous)}
    body = _render(db, [row for _, row in found.rows], call, keep)
    return Reply(HTTPStatus.OK, render_page(body, found.total, start, cursors))


def _condition(call: Call) -> sql.Where | None:
    """Return the condition of a list: everything, or one `eq` on an indexed column; None for the core."""
    if call.query.keys() & {"sortBy", "sortOrder", "cursor"}:
        return None
    text = call.query.get("filter")
    if text is None:
        return sql.Where()
    asked = hot.equality(text)
    if asked is None or asked[0] not in _COLUMN_FILTERS[call.kind]:
        return None
    column = sql.COLUMNS[call.kind][asked[0]]
    return sql.Where(f"{column.key} = :f0", {"f0": column.shape(asked[1])})


def _window(query: Mapping[str, str]) -> tuple[int, int] | None:
    """Return startIndex and count within their bounds (RFC 7644 §3.4.2.4), or None when one is no number."""
    texts = query.get("startIndex", "1"), query.get("count", str(PAGE))
    try:
        start, count = map(int, texts)
    except ValueError:
        return None
    if not all(map(str.isascii, texts)):
        return None
    if start > 2**62:
        return None
    return max(1, start), min(max(0, count), MAX_PAGE)


# -- writes ------------------------------------------------------------------------------------------------------


def create(db: Db, intake: Intake, call: Call, document: Mapping[str, Any]) -> Reply:
    """Create a resource from its validated document (RFC 7644 §3.3)."""
    with unique_names():
        if call.kind == "User":
            made: User | Group = intake.create_user(db, user_facts(document), call.origin)
        else:
            made = intake.create_group(db, group_facts(document), member_ids(document), call.origin)
    return _answer(db, call, made, HTTPStatus.CREATED)


def replace_whole(db: Db, intake: Intake, call: Call, document: Mapping[str, Any]) -> Reply:
    """Replace a resource by its validated document (RFC 7644 §3.5.1); a user without `active` keeps it."""
    resource_id = call.resource_id or ""
    with unique_names():
        if call.kind == "User":
            user = live_user(db, call.source, resource_id)
            call.conditions.check(etag(user.version), "PUT")
            facts = user_facts(kept_hidden(document, user.doc, call.known), active=user.active)
            made: User | Group = intake.replace_user(db, user, facts, call.origin)
        else:
            group = live_group(db, call.source, resource_id)
            call.conditions.check(etag(group.version), "PUT")
            same_types(db, group.id, document)
            renewed = group_facts(kept_hidden(document, group.doc, call.known))
            made = intake.replace_group(db, group, renewed, member_ids(document), call.origin)
    return _answer(db, call, made, HTTPStatus.OK)


def same_types(db: Db, group_id: str, document: Mapping[str, Any]) -> None:
    """Refuse to turn a member into one of another type (RFC 7643 §4.2: immutable)."""
    given: dict[str, list[Any]] = {}
    for entry in document.get("members") or ():
        given.setdefault(entry["value"], []).append(entry.get("type"))
    for row in directory.members(db, group_id):
        kinds = given.get(row.member_id, [])
        if len(kinds) == 1 and kinds[0] not in (None, row.member_type):
            raise MutabilityException


def set_active(db: Db, intake: Intake, call: Call, active: bool) -> Reply:
    """Set `active` of a user: the request this program is for."""
    user = live_user(db, call.source, call.resource_id or "")
    call.conditions.check(etag(user.version), "PATCH")
    facts = user_facts({**user.doc, "active": active})
    return _answer(db, call, intake.replace_user(db, user, facts, call.origin), HTTPStatus.OK)


def set_attributes(db: Db, intake: Intake, call: Call, wanted: Sequence[hot.Setting]) -> Reply:
    """Set plain attributes of a user: a new title, another department, a marriage."""
    user = live_user(db, call.source, call.resource_id or "")
    call.conditions.check(etag(user.version), "PATCH")
    facts = user_facts(hot.settled(user.doc, wanted))
    with unique_names():
        return _answer(db, call, intake.replace_user(db, user, facts, call.origin), HTTPStatus.OK)


def change_group(db: Db, intake: Intake, call: Call, change: hot.GroupChange) -> Reply:
    """Add, remove and replace members, rename, or all of these, at a cost that does not grow with the group."""
    group = live_group(db, call.source, call.resource_id or "")
    call.conditions.check(etag(group.version), "PATCH")
    named = {"displayName": change.display_name, "externalId": change.external_id}
    facts = group_facts({**group.doc, **{name: value for name, value in named.items() if value is not None}})
    for member in (*change.add, *(change.everyone or ())):
        bounded("members.value", member)
    change = change.in_terms_of(Meanings(db, call.source, group.id))
    with unique_names():
        if change.everyone is not None:
            made = intake.replace_group(db, group, facts, change.everyone, call.origin)
        else:
            renamed = facts if change.renames else None
            made = intake.change_members(db, group, change.add, change.remove, call.origin, facts=renamed)
    if not projection(call.query, "Group")[0] and directory.has_more_members_than(db, group.id, SMALL_GROUP):
        return Reply(HTTPStatus.NO_CONTENT, None, {"ETag": etag(made.version)})
    return _answer(db, call, made, HTTPStatus.OK)


def nothing_to_do(db: Db, call: Call) -> Reply:
    """Answer a PATCH whose every operation is true already, such as a password that is not kept."""
    if call.kind == "User":
        found: User | Group = live_user(db, call.source, call.resource_id or "")
    else:
        found = live_group(db, call.source, call.resource_id or "")
    call.conditions.check(etag(found.version), "PATCH")
    return _answer(db, call, found, HTTPStatus.OK)


def delete(db: Db, intake: Intake, call: Call) -> Reply:
    """Delete a resource (RFC 7644 §3.6)."""
    resource_id = call.resource_id or ""
    if call.kind == "User":
        user = live_user(db, call.source, resource_id)
        call.conditions.check(etag(user.version), "DELETE")
        intake.delete_user(db, user, call.origin)
    else:
        group = live_group(db, call.source, resource_id)
        call.conditions.check(etag(group.version), "DELETE")
        intake.delete_group(db, group, call.origin)
    return Reply(HTTPStatus.NO_CONTENT)


def _answer(db: Db, call: Call, made: User | Group, status: HTTPStatus) -> Reply:
    row = {
        "id": made.id,
        "doc": compact(made.doc),
        "created_at": made.created_at,
        "updated_at": made.updated_at,
        "version": made.version,
    }
    headers = _headers(call, made.id, made.version)
    if status == HTTPStatus.CREATED:
        headers["Location"] = headers["Content-Location"]
    return Reply(status, _render(db, [row], call, projection(call.query, call.kind)[0])[0], headers)
