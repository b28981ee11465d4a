"""Users, groups and pages as Microsoft Graph shows them, turned into ours. Pure.

accountEnabled     | user
-------------------+------------------------------------------------------------------
true               | present
false              | inactive
null, missing, odd | unknown: without User.Read.All all but the id of a member is null
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idsync.errors import IncompleteSource
from idsync.model import Observation
from idsync.snapshot import Seen
from idsync.sources.graph.client import Call, checked
from idsync.sources.pager import Answer, Page, text

USER = "id,userPrincipalName,mail,accountEnabled,displayName"
GROUP = "id,displayName,visibility"
HIDDEN = "hiddenmembership"
NEXT, DELTA, COUNT, REMOVED = "@odata.nextLink", "@odata.deltaLink", "@odata.count", "@removed"


@dataclass(frozen=True)
class Found:
    """A group that Graph shows; `hidden` if its members are, without a permission of their own."""

    id: str
    name: str
    hidden: bool


def page_of(answer: Answer, call: Call) -> tuple[Page, Mapping[str, Any]]:
    """Return a page of a listing, and all it says.

    Raises:
        IncompleteSource: it is none, whatever its status says: an error may hide in a 200.
    """
    told = checked(answer, call)
    if not isinstance(told, dict) or "error" in told or not isinstance(told.get("value"), list):
        msg = f"{call.what}: the answer is no page of a listing"
        raise IncompleteSource(msg)
    if NEXT in told and text(told[NEXT]) is None:
        msg = f"{call.what}: the link to the next page is none"
        raise IncompleteSource(msg)
    return Page(told["value"], told.get(NEXT)), told


def count_of(told: Mapping[str, Any], call: Call) -> int | None:
    """Return how many rows the source itself counts, None if it does not say."""
    if COUNT not in told:
        return None
    count = told[COUNT]
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        msg = f"{call.what}: the source's own count is no number"
        raise IncompleteSource(msg)
    return count


def id_of(row: Any, call: Call) -> str:
    """Return whom a row is about: of a row that does not say so, somebody is missing."""
    found = text(row.get("id")) if isinstance(row, dict) and "error" not in row else None
    if found is None:
        msg = f"{call.what}: there is a record without an id"
        raise IncompleteSource(msg)
    return found


def seen_of(row: Mapping[str, Any], at: float) -> Seen:
    """Return a user; odd values are unknown, never an error."""
    enabled = row.get("accountEnabled")
    name = text(row.get("userPrincipalName"))
    if enabled is True and name:
        observation, why = Observation.PRESENT, "accountEnabled=true"
    elif enabled is False:
        observation, why = Observation.INACTIVE, "accountEnabled=false"
    else:
        observation, why = Observation.UNKNOWN, "accountEnabled is not shown: grant User.Read.All and admin consent"
        if enabled is True:
            why = "userPrincipalName is not shown: grant User.Read.All and admin consent"
    return Seen(
        external_id=row["id"],
        user_name=name or row["id"],
        observation=observation,
        why=why,
        at=at,
        email=text(row.get("mail")),
        display_name=text(row.get("displayName")),
    )


def found_of(row: Any, call: Call) -> Found:
    """Return a group.

    Raises:
        IncompleteSource: it shows no name.
    """
    found, name = id_of(row, call), text(row.get("displayName"))
    if name is None:
        msg = f"{call.what}: the group {found} is shown without its name: grant GroupMember.Read.All and admin consent"
        raise IncompleteSource(msg)
    return Found(found, name, str(row.get("visibility")).lower() == HIDDEN)


def is_kind(row: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a row is of a kind ("user"); a row that does not say is of the one that was asked for."""
    told = row.get("@odata.type")
    return told is None or str(told).lower() == f"#microsoft.graph.{kind}"
