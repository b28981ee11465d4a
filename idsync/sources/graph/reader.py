"""What is read of a tenant: wanted groups, their members, who is assigned to the application, single users.

Every listing is followed to its end by the pager, and compared with the count that Graph gives with its first page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from idsync.errors import IncompleteSource
from idsync.snapshot import Finished, Seen, Wanted
from idsync.sources.graph.client import EVENTUAL, Call, GraphClient, checked, error_code
from idsync.sources.graph.delta import sum_of
from idsync.sources.graph.rows import (
    GROUP,
    HIDDEN,
    USER,
    Found,
    count_of,
    found_of,
    id_of,
    is_kind,
    page_of,
    seen_of,
)
from idsync.sources.graph.settings import GraphSettings
from idsync.sources.pager import Answer, Listed, Page, read_all, text

T = TypeVar("T")
Parse = Callable[[Mapping[str, Any], float], T | None]

READ_USERS, READ_MEMBERS = "User.Read.All", "GroupMember.Read.All"
READ_APPS, READ_HIDDEN = "Application.Read.All", "Member.Read.Hidden"
NOT_FOUND = "request_resourcenotfound"
FEW = 2_000
"""Users up to which it is cheaper to ask for each, 20 in a batch, than to list the whole tenant."""
AT_ONCE = 20
"""Groups that checkMemberGroups takes (learn.microsoft.com/graph/api/directoryobject-checkmembergroups)."""


@dataclass(frozen=True)
class Assignments:
    """Who is assigned to the application, as ids; `sum` changes when they do."""

    users: frozenset[str]
    groups: frozenset[str]
    finished: Finished

    @property
    def sum(self) -> str:
        return sum_of([sorted(self.users), sorted(self.groups)])


class Short(IncompleteSource):
    """Fewer were listed than the source counts."""


class Reader:
    """Reads; remembers nothing."""

    def __init__(self, settings: GraphSettings, client: GraphClient) -> None:
        self._name = settings.name
        self._base = settings.base
        self._app = settings.app_id
        self._client = client

    # -- groups ---------------------------------------------------------------------------------------------------

    async def groups(self, wanted: Wanted) -> tuple[dict[str, Found], list[Finished]]:
        """Return the wanted groups that Graph shows: by name, code point by code point, and by id."""
        names = {name: self._named(name) for name in sorted(wanted.names)}
        early = await self._client.prefetch(list(names.values()))
        found: dict[str, Found] = {}
        proof = []
        for name, call in names.items():
            listed = await self.listing(call, _group_of(call), early)
            found |= {id_: group for id_, group in listed.rows.items() if group.name == name}
            proof.append(listed.finished)
        return found | await self.groups_by_id((wanted.ids | wanted.bound) - set(found)), proof

    async def groups_by_id(self, ids: Iterable[str]) -> dict[str, Found]:
        """Return those of the groups that are there."""
        calls = {id_: self._group(id_) for id_ in sorted(ids)}
        early = await self._client.prefetch(list(calls.values()))
        found = {}
        for id_, call in calls.items():
            answer = early.get(call) or await self._client.send(call)
            if not is_nowhere(answer):
                group = found_of(checked(answer, call), call)
                found[id_] = replace(group, id=_same(group.id, id_, call))
        return found

    async def nested(self, groups: Collection[Found]) -> dict[str, frozenset[str]]:
        """Return which groups are nested in each group, at any depth: level by level, for that costs Graph least.

        Raises:
            IncompleteSource: the members of one of them are hidden from idsync.
        """
        direct: dict[str, frozenset[str]] = {}
        level = {group.id: group for group in groups}
        while level:
            for group in level.values():
                if group.hidden:
                    await self.see_hidden(group.id, group.name)
            calls = {id_: self._nested_in(group) for id_, group in level.items()}
            early = await self._client.prefetch(list(calls.values()))
            listed = {id_: await self.listing(call, _nested_group, early) for id_, call in calls.items()}
            direct |= {id_: frozenset(one.rows) for id_, one in listed.items()}
            below = {id_: group for one in listed.values() for id_, group in one.rows.items()}
            level = {id_: group for id_, group in below.items() if id_ not in direct}
        return {group.id: _reached(group.id, direct) for group in groups}

    async def see_hidden(self, group: str, name: str) -> None:
        """Raise unless the members of a group with hidden membership are shown; nobody is no proof of it."""
        url = f"{self._base}/groups/{quote(group, safe='')}/members?$select=id&$top=1"
        call = Call(url, f"{self._name}: hidden members of {name}", "groups/members", READ_HIDDEN)
        page, _ = page_of(await self._client.send(call), call)
        if not page.rows:
            msg = (
                f"{self._name}: the members of {name} ({group}) are hidden: grant {READ_HIDDEN} (application) and "
                "admin consent, or take the group out of the configuration"
            )
            raise IncompleteSource(msg)

    async def members(self, group: str, label: str, *, direct: bool = False) -> Listed[Seen]:
        """Return the users in a group: those of nested groups too, or only the direct ones."""
        how = "members" if direct else "transitiveMembers"
        url = f"{self._base}/groups/{quote(group, safe='')}/{how}/microsoft.graph.user?$count=true&$select={USER}&$top=999"
        what = f"{self._name}: members of {label}"
        return await self.listing(Call(url, what, f"groups/{how}", READ_MEMBERS, EVENTUAL), _user)

    # -- the application ------------------------------------------------------------------------------------------

    async def assignments(self) -> Assignments:
        """Return who is assigned to the application; what is neither user nor group is left out."""
        what = f"{self._name}: assignments of the application"
        url = f"{self._base}/servicePrincipals/{quote(self._app, safe='')}/appRoleAssignedTo?$top=999"
        call = Call(url, what, "servicePrincipals/appRoleAssignedTo", READ_APPS)
        listed = await self.listing(call, lambda row, _: _principal(row, what))
        by_kind: dict[str, set[str]] = {"user": set(), "group": set()}
        for kind, id_ in listed.rows.values():
            by_kind.setdefault(kind, set()).add(id_)
        return Assignments(frozenset(by_kind["user"]), frozenset(by_kind["group"]), listed.finished)

    async def users(self, ids: Collection[str]) -> tuple[dict[str, Seen], list[Finished]]:
        """Return those of the users that are there."""
        if len(ids) > FEW:
            url = f"{self._base}/users?$count=true&$select={USER}&$top=999"
            call = Call(url, f"{self._name}: users", "users", READ_USERS, EVENTUAL)
            listed = await self.listing(call, lambda row, at: seen_of(row, at) if row["id"] in ids else None)
            return listed.rows, [listed.finished]
        calls = {id_: self.user(id_) for id_ in sorted(ids)}
        early = await self._client.prefetch(list(calls.values()))
        found = {}
        for id_, call in calls.items():
            answer = early.get(call) or await self._client.send(call)
            if not is_nowhere(answer):
                found[id_] = self.seen(answer, call, id_)
        return found, []

    async def user_count(self) -> int:
        """Return how many users the tenant has: what it may be asked for in a while depends on it."""
        url = f"{self._base}/users?$count=true&$select=id&$top=1"
        call = Call(url, f"{self._name}: number of users", "users", READ_USERS, EVENTUAL)
        _, told = page_of(await self._client.send(call), call)
        return count_of(told, call) or 0

    # -- one user -------------------------------------------------------------------------------------------------

    def user(self, id_: str) -> Call:
        url = f"{self._base}/users/{quote(id_, safe='')}?$select={USER}"
        return Call(url, f"{self._name}: a user", "users/{id}", READ_USERS)

    def seen(self, answer: Answer, call: Call, id_: str) -> Seen:
        """Return the user an answer shows.

        Raises:
            IncompleteSource: it is about somebody else, or about nobody.
        """
        row = checked(answer, call)
        asked = _same(id_of(row, call), id_, call)
        return replace(seen_of(row, answer.at), external_id=asked)

    async def is_in_bin(self, id_: str) -> bool:
        """Tell whether a user who is not there was deleted a short while ago and can be restored."""
        url = f"{self._base}/directory/deletedItems/{quote(id_, safe='')}?$select=id"
        call = Call(url, f"{self._name}: a deleted user", "directory/deletedItems/{id}", READ_USERS)
        answer = await self._client.send(call)
        if is_nowhere(answer):
            return False
        _same(id_of(checked(answer, call), call), id_, call)
        return True

    async def groups_of(self, id_: str, groups: Collection[str]) -> frozenset[str] | None:
        """Return in which of the groups a user is, nested ones included; None if Graph cannot tell.

        Graph leaves groups out of its answer that it may not or cannot show, so each has to be readable itself.
        """
        readable = await self.groups_by_id(groups)
        if len(readable) < len(groups):
            return None
        try:
            for group in readable.values():
                if group.hidden:
                    await self.see_hidden(group.id, group.name)
        except IncompleteSource:
            return None
        ordered = sorted(groups)
        chunks = [ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE)]
        calls = [self._check(id_, chunk) for chunk in chunks]
        early = await self._client.prefetch(calls)
        inside: set[str] = set()
        for call in calls:
            answer = early.get(call) or await self._client.send(call)
            if is_nowhere(answer):
                return None
            inside.update(_texts(checked(answer, call), call))
        return frozenset(inside & set(groups))

    def _check(self, id_: str, groups: list[str]) -> Call:
        url = f"{self._base}/users/{quote(id_, safe='')}/checkMemberGroups"
        what = f"{self._name}: the groups of a user"
        return Call(url, what, "users/{id}/checkMemberGroups", READ_MEMBERS, body=json.dumps({"groupIds": groups}))

    def _named(self, name: str) -> Call:
        escaped = quote(f"displayName eq '{name.replace(chr(39), chr(39) * 2)}'", safe="")
        url = f"{self._base}/groups?$filter={escaped}&$select={GROUP}&$top=999"
        return Call(url, f"{self._name}: groups named {name}", "groups", READ_MEMBERS)

    def _group(self, id_: str) -> Call:
        url = f"{self._base}/groups/{quote(id_, safe='')}?$select={GROUP}"
        return Call(url, f"{self._name}: group {id_}", "groups/{id}", READ_MEMBERS)

    def _nested_in(self, group: Found) -> Call:
        cast = f"members/microsoft.graph.group?$count=true&$select={GROUP}&$top=999"
        url = f"{self._base}/groups/{quote(group.id, safe='')}/{cast}"
        return Call(url, f"{self._name}: groups in {group.name}", "groups/members", READ_MEMBERS, EVENTUAL)

    # -- listings -------------------------------------------------------------------------------------------------

    async def listing(self, call: Call, parse: Parse[T], early: Mapping[Call, Answer] | None = None) -> Listed[T]:
        """Read a listing to its end; once again if fewer came than were counted, for people come and go meanwhile."""
        try:
            return await self._once(call, parse, early or {})
        except Short:
            return await self._once(call, parse, {})

    async def _once(self, call: Call, parse: Parse[T], early: Mapping[Call, Answer]) -> Listed[T]:
        rows: dict[str, T] = {}
        ids: set[str] = set()
        counted: list[int | None] = []

        async def fetch(url: str) -> Answer:
            one = replace(call, url=url)
            return early.get(one) or await self._client.send(one)

        def page(answer: Answer) -> Page:
            found, told = page_of(answer, call)
            counted.append(count_of(told, call))
            return found

        def take(page: list[Any], at: float) -> None:
            for row in page:
                id_ = id_of(row, call)
                ids.add(id_)
                parsed = parse(row, at)
                if parsed is not None:
                    rows[id_] = parsed

        finished = await read_all(fetch, call.url, page, take, base=self._base, what=call.what)
        if len(ids) < (counted[0] or 0):
            msg = f"{call.what}: {len(ids)} were listed where Graph counts {counted[0]}"
            raise Short(msg)
        return Listed(rows, finished)


def is_nowhere(answer: Answer) -> bool:
    """Tell whether Graph itself says that there is no such object: a 404 of an edge or a path says nothing."""
    return answer.status == 404 and error_code(answer).lower() == NOT_FOUND


def _reached(start: str, direct: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return what is nested in a group at any depth; groups may be nested in each other."""
    found: set[str] = set()
    left = list(direct[start])
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(direct[one])
    return frozenset(found)


def _same(shown: str, asked: str, call: Call) -> str:
    """Return the id as it was asked for; a GUID may be written either way."""
    if shown.lower() != asked.lower():
        msg = f"{call.what}: the answer is about another one than was asked for"
        raise IncompleteSource(msg)
    return asked


def _group_of(call: Call) -> Parse[Found]:
    return lambda row, _at: found_of(row, call)


def _user(row: Mapping[str, Any], at: float) -> Seen | None:
    return seen_of(row, at) if is_kind(row, "user") else None


def _nested_group(row: Mapping[str, Any], _at: float) -> Found | None:
    name = text(row.get("displayName")) or str(row["id"])
    return Found(row["id"], name, str(row.get("visibility")).lower() == HIDDEN) if is_kind(row, "group") else None


def _principal(row: Mapping[str, Any], what: str) -> tuple[str, str]:
    kind, id_ = text(row.get("principalType")), text(row.get("principalId"))
    if kind is None or id_ is None:
        msg = f"{what}: there is an assignment of nobody"
        raise IncompleteSource(msg)
    return kind.lower(), id_


def _texts(told: Any, call: Call) -> list[str]:
    value = told.get("value") if isinstance(told, dict) and "error" not in told else None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        msg = f"{call.what}: the answer is no list of ids"
        raise IncompleteSource(msg)
    return value
