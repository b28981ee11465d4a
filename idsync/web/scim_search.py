"""Finding records: the database filters, sorts and pages; what no column holds is looked at one by one (in storage).

A page is found by number (RFC 7644 §3.4.2.4) or from a position, the sort keys of the record before or after it
(RFC 9865): then a page costs the same wherever it is, and changes in between neither skip nor repeat anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from scim2_models import InvalidCursorException, Resource, SearchRequest
from scim2_server.storage import SearchPage

from idsync.scim import sql
from idsync.store import directory
from idsync.store.db import Db, Row

ALL = 2**31 - 1


@dataclass(frozen=True)
class Found:
    """A page of rows, each with its kind; positions are None where there is no such page."""

    total: int
    rows: Sequence[tuple[str, Row]] = ()
    next: Mapping[str, Any] | None = None
    previous: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Search:
    """A search request, translated: for each kind its condition and its order."""

    conditions: Mapping[str, sql.Where]
    orders: Mapping[str, sql.Order | None]
    sorted: bool

    @classmethod
    def of(cls, kinds: Sequence[str], request: SearchRequest[Any]) -> Search:
        """Translate a request that the core has validated.

        Raises:
            InvalidFilterException: an operand is not of its attribute's type.
        """
        node = request.filter.ast if request.filter is not None else None
        path = str(request.sort_by) if request.sort_by else None
        descending = request.sort_order == SearchRequest.SortOrder.descending
        return cls(
            {kind: sql.where(node, kind) for kind in kinds},
            {kind: sql.order(path, kind, descending=descending) for kind in kinds},
            path is not None,
        )

    @property
    def in_sql(self) -> bool:
        """Whether the database can answer alone; several kinds in one order it cannot."""
        exact = all(one.exact for one in self.conditions.values()) and None not in self.orders.values()
        return exact and (len(self.conditions) == 1 or not self.sorted)


def find(db: Db, source: str, search: Search, request: SearchRequest[Any], position: Any) -> Found:
    """Return a page of a search that is `in_sql`; several kinds follow one another.

    Raises:
        InvalidCursorException: the position is none of ours.
    """
    counts = {kind: count(db, source, kind, one) for kind, one in search.conditions.items()}
    limit = ALL if request.count is None else request.count
    if request.cursor is None:
        rows = _by_number(db, source, search, counts, (request.start_index_0 or 0), limit)
        return Found(sum(counts.values()), rows)
    if limit == 0:
        return Found(sum(counts.values()))
    return _by_position(db, source, search, sum(counts.values()), limit, position)


def count(db: Db, source: str, kind: str, condition: sql.Where) -> int:
    counter = directory.count_users if kind == "User" else directory.count_groups
    return counter(db, source, condition.text, condition.params, narrow=condition.narrow)


def _by_number(
    db: Db, source: str, search: Search, counts: Mapping[str, int], skip: int, limit: int
) -> list[tuple[str, Row]]:
    found: list[tuple[str, Row]] = []
    passed = 0
    for kind, condition in search.conditions.items():
        first, left = max(0, skip - passed), limit - len(found)
        passed += counts[kind]
        if first < counts[kind] and left > 0:
            order = _order(search, kind).text()
            rows = directory.scim_page(
                db,
                kind,
                source,
                condition.text,
                condition.params,
                limit=left,
                offset=first,
                order=order,
                narrow=condition.narrow,
            )
            found += [(kind, row) for row in rows]
    return found


def _by_position(db: Db, source: str, search: Search, total: int, limit: int, position: Any) -> Found:
    kinds = list(search.conditions)
    start = None if position is None else _start(position, search)
    back = start is not None and start.back
    way = kinds[::-1] if back else kinds
    found: list[tuple[str, Row]] = []
    for kind in way[way.index(start.kind) :] if start else way:
        condition, order = search.conditions[kind], _order(search, kind)
        text, params = condition.text, dict(condition.params)
        if start and kind == start.kind:
            text = f"({text}) AND {order.beyond(back=back)}"
            params |= {f"k{number}": value for number, value in enumerate(start.keys)}
        rows = directory.scim_page(
            db,
            kind,
            source,
            text,
            params,
            limit=limit + 1 - len(found),
            offset=0,
            order=order.text(back=back),
            narrow=condition.narrow,
        )
        found += [(kind, row) for row in rows]
        if len(found) > limit:
            break
    more, found = len(found) > limit, found[:limit]
    if back:
        found.reverse()
    if not found:
        return Found(total)
    after = _position(db, search, found[-1], "next") if more or back else None
    before = _position(db, search, found[0], "previous") if (more if back else start) else None
    return Found(total, found, after, before)


def _order(search: Search, kind: str) -> sql.Order:
    return search.orders[kind] or sql.IN_ORDER


def _position(db: Db, search: Search, place: tuple[str, Row], way: str) -> Mapping[str, Any]:
    kind, row = place
    return {"d": way, "r": kind, "k": list(directory.scim_keys(db, kind, row["id"], _order(search, kind).keys))}


@dataclass(frozen=True)
class _Start:
    kind: str
    keys: Sequence[Any]
    back: bool


def _start(position: Any, search: Search) -> _Start:
    """Read a position; it was sealed by us for this very query, but perhaps by another release."""
    try:
        start = _Start(position["r"], position["k"], position["d"] == "previous")
        known = start.kind in search.conditions and len(start.keys) == len(_order(search, start.kind).keys)
    except (TypeError, KeyError):
        raise InvalidCursorException from None
    if not known:
        raise InvalidCursorException
    return start


# -- what was looked at one by one --------------------------------------------------------------------------------


def paginate(resources: Sequence[Resource[Any]], request: SearchRequest[Any], position: Any) -> SearchPage:
    """Sort matching resources in memory and return the page that is asked for.

    Raises:
        InvalidCursorException: the position is none of ours.
    """
    descending = request.sort_order == SearchRequest.SortOrder.descending and request.sort_by is not None
    found = sorted(((_key(request, one), one) for one in resources), key=itemgetter(0), reverse=descending)
    if request.cursor is None:
        start = request.start_index_0 or 0
        stop = None if request.count is None else start + request.count
        return SearchPage(len(found), [one for _, one in found[start:stop]])
    limit = ALL if request.count is None else request.count
    back, place = _place([key for key, _ in found], position, descending=descending)
    first = max(0, place - limit) if back else place
    shown = found[first:place] if back else found[first : first + limit]
    page = SearchPage(len(found), [one for _, one in shown])
    if shown and first + len(shown) < len(found):
        page.next = {"d": "next", "k": list(shown[-1][0])}
    if shown and first > 0:
        page.previous = {"d": "previous", "k": list(shown[0][0])}
    return page


def _key(request: SearchRequest[Any], resource: Resource[Any]) -> tuple[Any, ...]:
    """Return what a resource is sorted by, in a form JSON can hold: missing values last, then the id."""
    if request.sort_by is None:
        meta = resource.meta
        created = meta.created.isoformat() if meta and meta.created else ""
        return str(meta.resource_type if meta else ""), created, str(resource.id)
    value = request.sort_value(resource)
    if isinstance(value, datetime):
        value = value.isoformat()
    return value is None, "" if value is None else value, str(resource.id)


def _place(keys: Sequence[tuple[Any, ...]], position: Any, *, descending: bool) -> tuple[bool, int]:
    """Return whether a page ends at a place among sorted keys (or begins there), and that place."""
    if position is None:
        return False, 0
    try:
        anchor, back = tuple(position["k"]), position["d"] == "previous"
        passed = sum(1 for key in keys if (key > anchor if descending else key < anchor))
        return back, passed if back else passed + (anchor in keys)
    except (TypeError, KeyError):
        raise InvalidCursorException from None
