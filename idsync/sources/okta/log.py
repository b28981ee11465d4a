"""Okta's System Log, polled: what its events say should be looked at. An event is never evidence, only a reason to look.

event                                                                 | what is looked at
----------------------------------------------------------------------+-----------------------------------------------
user.lifecycle.*, user.account.update_profile                         | the user, by id
group.user_membership.add, .remove of a group that matters            | the user, by id, with their groups
group.application_assignment.*, group.lifecycle.delete of such a one  | the group, read again in full
application.user_membership.* of our app                              | the user, by id, with the assignment
application.lifecycle.deactivate, .delete of our app                  | the app: while it is not active, nothing goes on
system.import.complete                                                | all that has changed since the last poll, at once
anything else (a log-out, a lock, ...), or an outcome but SUCCESS     | nothing

A polling query has no end: every page, also an empty one, links to the next. A page shorter than its limit ends a
round, and its link, letter by letter, is where the next round begins. Events come at least once, so `uuid` tells which
were there before. https://developer.okta.com/docs/reference/api/system-log/
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from idsync.errors import CursorLost, IncompleteSource
from idsync.sources.pager import is_within, text

USER_EVENTS = frozenset(
    {
        "user.lifecycle.activate",
        "user.lifecycle.create",
        "user.lifecycle.deactivate",
        "user.lifecycle.delete.completed",
        "user.lifecycle.delete.initiated",
        "user.lifecycle.reactivate",
        "user.lifecycle.suspend",
        "user.lifecycle.unsuspend",
        "user.account.update_profile",
    }
)
MEMBER_EVENTS = frozenset({"group.user_membership.add", "group.user_membership.remove"})
GROUP_EVENTS = frozenset(
    {
        "group.application_assignment.add",
        "group.application_assignment.remove",
        "group.application_assignment.update",
        "group.lifecycle.delete",
    }
)
ASSIGNMENT_EVENTS = frozenset(
    {
        "application.user_membership.add",
        "application.user_membership.deprovision",
        "application.user_membership.remove",
        "application.user_membership.revoke",
    }
)
APP_EVENTS = frozenset({"application.lifecycle.deactivate", "application.lifecycle.delete"})
IMPORT_EVENTS = frozenset({"system.import.complete"})
"""Of people whom an import makes, changes or deactivates there are no events of their own."""

FILTER = " or ".join(
    f'eventType eq "{kind}"'
    for kind in sorted(USER_EVENTS | MEMBER_EVENTS | GROUP_EVENTS | ASSIGNMENT_EVENTS | APP_EVENTS | IMPORT_EVENTS)
)
KEPT = 256
"""How many uuids a cursor remembers: what is older is looked at once more, which costs a request and harms nothing."""
CURSOR_LIFE = 80 * 86_400.0
"""Seconds after which a cursor is given up: Okta keeps the log for 90 days and does not say what it has dropped."""


@dataclass
class Round:
    """Collects the hints of one round, page by page. `matter`: ids of groups; None: not known, so all of them."""

    matter: Collection[str] | None
    app_id: str
    known: dict[str, None]
    users: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    app: bool = False
    imported: bool = False

    def take(self, events: Iterable[Any], what: str) -> None:
        """Take in a page.

        Raises:
            IncompleteSource: something in it is not an event.
        """
        for event in events:
            uuid, kind = text(event.get("uuid")), text(event.get("eventType"))
            if uuid is None or kind is None:
                msg = f"{what}: an entry is no event"
                raise IncompleteSource(msg)
            if uuid not in self.known:
                self.known[uuid] = None
                self._note(kind, event)

    def _note(self, kind: str, event: dict[str, Any]) -> None:
        outcome = event.get("outcome")
        if not isinstance(outcome, dict) or outcome.get("result") != "SUCCESS":
            return
        users, groups, apps = (_targets(event, sort) for sort in ("User", "UserGroup", "AppInstance"))
        ours = bool(self.app_id) and self.app_id in apps
        matters = self.matter is None or not groups or any(group in self.matter for group in groups)
        if kind in USER_EVENTS or (kind in MEMBER_EVENTS and matters) or (kind in ASSIGNMENT_EVENTS and ours):
            self.users |= users
        elif kind in GROUP_EVENTS and self.matter is not None:
            self.groups |= {group for group in groups if group in self.matter}
        elif kind in APP_EVENTS and ours:
            self.app = True
        elif kind in IMPORT_EVENTS:
            self.imported = True


def _targets(event: dict[str, Any], sort: str) -> set[str]:
    targets = event.get("target")
    named = [one for one in targets if isinstance(one, dict)] if isinstance(targets, list) else []
    return {found for one in named if one.get("type") == sort and (found := text(one.get("id")))}


def first_address(base: str, since: str, limit: int) -> str:
    """Return the polling query that begins at a time: no `until`, in the order in which Okta stored the events."""
    return f"{base}/api/v1/logs?since={quote(since, safe='')}&sortOrder=ASCENDING&limit={limit}&filter={quote(FILTER, safe='')}"


def limit_of(address: str, default: int) -> int:
    """Return how many events a full page of an address has: it may have been stored under another setting."""
    given = parse_qs(urlsplit(address).query).get("limit", [""])[0]
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else default


@dataclass(frozen=True)
class LogCursor:
    """Where polling goes on: the whole address, what was seen of late, and when that was (epoch seconds)."""

    address: str
    known: tuple[str, ...]
    at: float

    def written(self) -> str:
        return json.dumps({"v": 1, "next": self.address, "known": self.known[-KEPT:], "at": self.at})

    @classmethod
    def read(cls, given: str, base: str, now: float, name: str) -> LogCursor:
        """Read a stored cursor.

        Raises:
            CursorLost: it is none of ours, of another org, or older than what Okta keeps.
        """
        try:
            shown = json.loads(given)
            found = cls(str(shown["next"]), tuple(map(str, shown["known"])), float(shown["at"]))
            sound = shown["v"] == 1 and is_within(found.address, base)
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound or now - found.at > CURSOR_LIFE:
            msg = f"{name}: where the log was read to is not known any more; a full pass is needed"
            raise CursorLost(msg)
        return found
