"""What Microsoft Graph says has changed: the cursor, and the items of a round put together.

A round is followed from a delta link over its pages to the next delta link. Within it an item may come several times and
in any order, so nothing is made of the order: what does not fit together is looked up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from idsync.errors import CursorLost, IncompleteSource
from idsync.model import Observation
from idsync.snapshot import Seen, Wanted
from idsync.sources.graph.client import Call, GraphClient, error_code
from idsync.sources.graph.rows import DELTA, NEXT, REMOVED, USER, id_of, page_of, seen_of
from idsync.sources.graph.settings import GraphSettings
from idsync.sources.pager import Answer, Page, read_all, text

GROUP_CHANGES = "displayName,members"
MEMBERS = "members@delta"
PAGE_SIZE = (("Prefer", "odata.maxpagesize=999"),)
FORGOTTEN = frozenset({"syncstatenotfound", "resyncrequired", "syncstateinvalid"})
LOST = "Graph has forgotten where idsync was (delta links live for 7 days): everything is read anew"


@dataclass(frozen=True)
class Cursor:
    """Where to go on from: complete delta links, and what has to be known to understand what they will tell.

    `watched` are the wanted groups that were there, `nested` says which of them a group is nested in, `assigned` are
    the groups assigned to the application and `assignments` all its assignments as one sum ("": too many to compare).
    """

    made_for: str
    users: str
    groups: str
    watched: frozenset[str] = frozenset()
    nested: Mapping[str, frozenset[str]] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()
    assignments: str = ""

    def written(self) -> str:
        said = vars(self) | {
            "watched": sorted(self.watched),
            "nested": {inner: sorted(outer) for inner, outer in sorted(self.nested.items())},
            "assigned": sorted(self.assigned),
        }
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def read(cls, written: str, made_for: str) -> Cursor:
        """Read a cursor.

        Raises:
            CursorLost: it is none, or was made for other settings or groups.
        """
        try:
            told = json.loads(written)
            found = cls(
                str(told["made_for"]),
                str(told["users"]),
                str(told["groups"]),
                frozenset(told["watched"]),
                {inner: frozenset(outer) for inner, outer in told["nested"].items()},
                frozenset(told["assigned"]),
                str(told["assignments"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CursorLost("the cursor cannot be read: everything is read anew") from None
        if found.made_for != made_for:
            raise CursorLost("settings or wanted groups have changed: everything is read anew")
        return found


def made_for(settings: GraphSettings, wanted: Wanted) -> str:
    """Return what a cursor is bound to: what is asked for, and of whom. Bindings are not part of it: they come later."""
    said = [settings.base, settings.tenant_id, settings.app_id, USER, GROUP_CHANGES]
    return sum_of([said, sorted(wanted.names), sorted(wanted.ids)])


def sum_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


@dataclass
class Item:
    """All that a round says of one object."""

    row: dict[str, Any]
    at: float
    removed: bool = False
    shown: bool = False
    torn: bool = False
    members: set[str] = field(default_factory=set)

    def take(self, row: Mapping[str, Any], at: float, members: set[str]) -> None:
        self.at = min(self.at, at)
        self.members |= members
        if REMOVED in row:
            self.removed = True
            return
        self.shown = True
        for key, value in row.items():
            if key != MEMBERS:
                self.torn = self.torn or self.row.setdefault(key, value) != value

    @property
    def told(self) -> Seen | None:
        """Return the user it shows; None if only a look by id can tell."""
        if self.removed or self.torn:
            return None
        seen = seen_of(self.row, self.at)
        return None if seen.observation is Observation.UNKNOWN or seen.user_name == seen.external_id else seen


class Round:
    """One round of changes of users or of groups."""

    def __init__(self, client: GraphClient, base: str, what: str, endpoint: str, needs: str) -> None:
        self._client = client
        self._base = base
        self._call = Call("", what, endpoint, needs, PAGE_SIZE)
        self._link = ""
        self.items: dict[str, Item] = {}

    async def follow(self, link: str) -> str:
        """Read a round to its end and return the link of the next one.

        Raises:
            CursorLost: Graph does not know the link any more.
            IncompleteSource: a page that is none, or a round without its end.
        """
        self._link = ""
        await read_all(self._fetch, link, self._page, self._take, base=self._base, what=self._call.what)
        if not self._link:
            raise IncompleteSource(f"{self._call.what}: the changes end without a link to later ones")
        return self._link

    async def _fetch(self, url: str) -> Answer:
        return await self._client.send(replace(self._call, url=url))

    def _page(self, answer: Answer) -> Page:
        if answer.status in (400, 410) or (answer.status > 400 and error_code(answer).lower() in FORGOTTEN):
            raise CursorLost(f"{self._call.what}: {LOST}")
        page, told = page_of(answer, self._call)
        self._link = text(told.get(DELTA)) or ""
        if self._link and NEXT in told:
            raise IncompleteSource(f"{self._call.what}: a page claims to be the last and not to be")
        return page

    def _take(self, rows: list[Any], at: float) -> None:
        for row in rows:
            found = id_of(row, self._call)
            item = self.items.setdefault(found, Item({}, at))
            item.take(row, at, {id_of(member, self._call) for member in self._members(row)})

    def _members(self, row: Mapping[str, Any]) -> list[Any]:
        members = row.get(MEMBERS, [])
        if not isinstance(members, list):
            raise IncompleteSource(f"{self._call.what}: changes of members that are no list")
        return members
