"""What Okta's records say, read from raw JSON: pure functions, and one odd record never costs the page.

status                                    | observation
------------------------------------------+---------------------------------------------------------------
ACTIVE, RECOVERY, PASSWORD_EXPIRED        | present
LOCKED_OUT                                | present: whoever knows a login can lock it out
STAGED, PROVISIONED                       | unknown: not activated yet, which gives nothing and takes nothing
SUSPENDED                                 | suspended
DEPROVISIONED                             | inactive
any, with transitioningToStatus of that   | inactive: an asynchronous deactivation is under way
anything else                             | unknown
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

from idsync.errors import IncompleteSource
from idsync.model import Observation
from idsync.snapshot import Seen
from idsync.sources.pager import Answer, Page, text, whole_json

STATUSES = {
    "ACTIVE": Observation.PRESENT,
    "RECOVERY": Observation.PRESENT,
    "PASSWORD_EXPIRED": Observation.PRESENT,
    "LOCKED_OUT": Observation.PRESENT,
    "STAGED": Observation.UNKNOWN,
    "PROVISIONED": Observation.UNKNOWN,
    "SUSPENDED": Observation.SUSPENDED,
    "DEPROVISIONED": Observation.INACTIVE,
}
_ON_THE_WAY = (None, "ACTIVE", "PROVISIONED", "STAGED")
"""What `transitioningToStatus` may say without changing what `status` says."""

NOT_FOUND = "E0000007"
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r""";\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\b)""", re.IGNORECASE)


@dataclass(frozen=True)
class GroupRow:
    """A group as listed. `count` is how many members Okta says it has, None where it does not say."""

    id: str
    name: str
    count: int | None

    @property
    def at_least(self) -> int:
        """How many members a whole listing has: none only where Okta itself says that there are none."""
        return 1 if self.count is None else self.count


def page_of(answer: Answer, what: str) -> Page:
    """Read a page of a listing: an array of objects that have an id, and the one link to the next page.

    Raises:
        IncompleteSource: it is anything else. An object without an id is an error spliced in, not an odd record.
    """
    rows = whole_json(answer, what)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        msg = f"{what}: the answer is not a list of records"
        raise IncompleteSource(msg)
    return Page(rows, next_link(answer, what))


def next_link(answer: Answer, what: str) -> str | None:
    """Return the link to the next page as it was sent, letter by letter; None: this was the last.

    Raises:
        IncompleteSource: there are two, or the header speaks of one that cannot be read.
    """
    header = answer.headers.get("Link", "")
    following = {url for url, rest in _LINK.findall(header) if _NEXT.search(rest)}
    if len(following) > 1:
        msg = f"{what}: the answer has two different next pages"
        raise IncompleteSource(msg)
    if not following and re.search(r"\bnext\b", _LINK.sub(r"\2", header), re.IGNORECASE):
        msg = f"{what}: the link to the next page cannot be read"
        raise IncompleteSource(msg)
    return next(iter(following), None)


def id_of(row: Any, what: str) -> str:
    """Return the id of a record.

    Raises:
        IncompleteSource: it has none: what was listed is something else.
    """
    found = text(row.get("id")) if isinstance(row, dict) else None
    if found is None:
        msg = f"{what}: a record has no id"
        raise IncompleteSource(msg)
    return found


def seen_of(row: dict[str, Any], external_id: str, at: float) -> Seen:
    """Return what a user record says; `unknown`, with the reason, where it cannot be understood."""
    observation, why = observed(row)
    given = row.get("profile")
    profile = given if isinstance(given, dict) else {}
    login = text(profile.get("login"))
    if login is None:
        observation, why = Observation.UNKNOWN, "an odd record: no login"
    parts = [text(profile.get("firstName")), text(profile.get("lastName"))]
    name = text(profile.get("displayName")) or " ".join(part for part in parts if part)
    email = text(profile.get("email"))
    return Seen(external_id, login or external_id, observation, sys.intern(why), at, email, name or None)


def observed(row: dict[str, Any]) -> tuple[Observation, str]:
    """Return what the table above makes of a record's status, and Okta's own words for it."""
    status, transition = row.get("status"), row.get("transitioningToStatus")
    if not isinstance(status, str) or not (transition is None or isinstance(transition, str)):
        return Observation.UNKNOWN, "an odd record: no status that can be read"
    if transition == "DEPROVISIONED":
        return Observation.INACTIVE, f"status {status[:40]}, transitioning to DEPROVISIONED"
    if transition not in _ON_THE_WAY:
        return (
            Observation.UNKNOWN,
            f"status {status[:40]}, transitioning to {transition[:40]!r}, which idsync does not know",
        )
    if status not in STATUSES:
        return Observation.UNKNOWN, f"status {status[:40]!r}, which idsync does not know"
    if STATUSES[status] is Observation.UNKNOWN:
        return Observation.UNKNOWN, f"status {status}: not activated yet, which gives nothing and takes nothing"
    return STATUSES[status], f"status {status}"


def group_of(row: dict[str, Any], what: str) -> GroupRow | None:
    """Return a group as listed; None for one whose name cannot be read, so nothing can be bound to it."""
    profile, embedded = row.get("profile"), row.get("_embedded")
    name = text(profile.get("name")) if isinstance(profile, dict) else None
    stats = embedded.get("stats") if isinstance(embedded, dict) else None
    count = stats.get("usersCount") if isinstance(stats, dict) else None
    sound = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    found = id_of(row, what)
    return None if name is None else GroupRow(found, name, count if sound else None)


def says_not_found(answer: Answer, what: str) -> bool:
    """Tell whether Okta itself says that there is no such thing: a 404 of any other shape does not."""
    if answer.status != 404:
        return False
    body = whole_json(Answer(200, answer.headers, answer.body, answer.at), what)
    return isinstance(body, dict) and body.get("errorCode") == NOT_FOUND
