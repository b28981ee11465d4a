"""An Entra tenant, polled through Microsoft Graph.

what Graph says                                        | what is made of it
-------------------------------------------------------+--------------------------------------------------------------
accountEnabled true, false                             | present, inactive
accountEnabled null, missing or odd                    | unknown
a user listed in no group                              | nothing: looked up by id after two complete passes
@removed in a round of changes                         | looked up by id
404 Request_ResourceNotFound, in deletedItems          | inactive ("soft-deleted")
404 Request_ResourceNotFound, not in deletedItems      | absent; unknown within the hour after the user first appeared
404 of another kind                                    | unknown
a bound group that is not shown                        | IncompleteSource: its people are kept
a group whose members are hidden                       | IncompleteSource, SourceRefused
410, syncStateNotFound, other settings or groups       | CursorLost
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from idsync.clock import Clock
from idsync.errors import CursorLost, IncompleteSource
from idsync.model import Observation
from idsync.side_by_side import side_by_side
from idsync.snapshot import Changes, Finished, Look, Parts, Progress, Seen, SeenGroup, Snapshot, Wanted, unheard
from idsync.sources.graph.check import check
from idsync.sources.graph.client import GraphClient, Sleep
from idsync.sources.graph.delta import GROUP_CHANGES, Cursor, Item, Round, made_for
from idsync.sources.graph.memory import Memory
from idsync.sources.graph.reader import (
    READ_MEMBERS,
    READ_USERS,
    Reader,
    is_nowhere,
)
from idsync.sources.graph.rows import USER, Found
from idsync.sources.graph.settings import (
    Certificate,
    ClientSecret,
    Credential,
    FederatedToken,
    GraphSettings,
    ManagedIdentity,
)
from idsync.sources.graph.tokens import Observe, Tokens
from idsync.sources.graph.wire import Wire
from idsync.sources.kept import Kept
from idsync.sources.pager import Listed, text

__all__ = [
    "Certificate",
    "ClientSecret",
    "Credential",
    "FederatedToken",
    "GraphSettings",
    "GraphSource",
    "ManagedIdentity",
]

FRESH = 60.0
"""Seconds for which one reading of the application's assignments serves several looks."""
MANY = 50
"""Groups from which on it pays to ask how large the tenant is: a larger one may be asked faster."""
FEW_PAGES = 2
"""Pages of assignments up to which a round of changes reads them too."""

log = structlog.get_logger(__name__)


def unobserved(_endpoint: str, _code: str, _seconds: float) -> None:
    """Count nothing."""


@dataclass(frozen=True)
class Population:
    """Everybody who is assigned to the application, directly or as a direct member of an assigned group."""

    users: Mapping[str, Seen]
    groups: frozenset[str]
    sum: str
    proof: tuple[Finished, ...]


class GraphSource:
    """One Entra tenant. `observe` is told of every request: endpoint, status ("error": no answer), seconds."""

    patience = 2

    def __init__(
        self, settings: GraphSettings, clock: Clock, observe: Observe = unobserved, *, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._wire = Wire(timeout=settings.timeout, connections=settings.concurrency + 1, ca_file=settings.ca_file)
        self._tokens = Tokens(settings, self._wire, clock, observe)
        self._client = GraphClient(settings, self._wire, self._tokens, clock, observe, sleep)
        self._reader = Reader(settings, self._client)
        self._memory = Memory(clock)
        self._assigned: tuple[float, float, frozenset[str]] | None = None
        self._hidden: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<GraphSource {self.name}>"

    async def close(self) -> None:
        await self._wire.close()

    # -- everything -----------------------------------------------------------------------------------------------

    async def snapshot(self, wanted: Wanted, parts: Parts, progress: Progress = unheard) -> Snapshot:
        """List everybody and every wanted group; changes that come meanwhile are told by the snapshot's cursor."""
        kept = Kept(parts, made_for(self._settings, wanted), self._clock.now())
        if kept.noted is None:
            await self._begin(kept)
        users_link, groups_link = kept.noted
        if len(wanted.names | wanted.ids | wanted.bound) > MANY:
            self._client.units.tenant_has(await self._reader.user_count())
        groups, proof = await self._visible(wanted)
        nested = await self._reader.nested(groups.values())
        listed = await self._members(groups, kept, progress, direct=False)
        users = _newest(listed.values())
        cursor = Cursor(
            made_for(self._settings, wanted),
            users_link,
            groups_link,
            watched=frozenset(groups),
            nested=_turned_round(nested),
        )
        if self._settings.app_id:
            population = await self._population(users, kept, progress)
            users = dict(population.users)
            proof += population.proof
            cursor = replace(cursor, assigned=population.groups, assignments=population.sum)
        found = Snapshot(
            source=self.name,
            users=users,
            groups={id_: _group(groups[id_], listed[id_], users) for id_ in groups},
            proof=(*proof, *(one.finished for one in listed.values())),
            cursor=cursor.written(),
        )
        kept.end()
        progress("users", len(users), len(users))
        self._memory.listed(users)
        return found

    async def _begin(self, kept: Kept) -> None:
        """Take the delta links that changes go on from, before anything is listed: so nothing falls in between."""
        began = self._clock.now()
        base = self._settings.base
        try:
            users = await self._users_round().follow(f"{base}/users/delta?$select={USER}&$deltaToken=latest")
            groups = await self._groups_round().follow(
                f"{base}/groups/delta?$select={GROUP_CHANGES}&$deltaToken=latest"
            )
        except CursorLost:
            msg = f"{self.name}: Graph gives no delta link to begin with"
            raise IncompleteSource(msg) from None
        kept.begin(began, [users, groups])

    async def _visible(self, wanted: Wanted) -> tuple[dict[str, Found], tuple[Finished, ...]]:
        """Return the wanted groups, all the bound ones among them."""
        groups, proof = await self._reader.groups(wanted)
        self._hidden = {id_: group.name for id_, group in groups.items() if group.hidden}
        missing = sorted(wanted.bound - set(groups))
        if missing:
            msg = (
                f"{self.name}: Graph does not show the bound group {missing[0]}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; if it was deleted on purpose, find "
                "it with `idsync groups list` and take the binding away with `idsync groups unbind`"
            )
            raise IncompleteSource(msg)
        return groups, tuple(proof)

    async def _members(
        self, groups: Mapping[str, Found], kept: Kept | None, progress: Progress, *, direct: bool
    ) -> dict[str, Listed[Seen]]:
        """Read the members of each group, some groups at once; those that were kept are not read again."""
        part = {id_: f"{'direct' if direct else 'group'}/{id_}" for id_ in groups}
        before = kept.load(part.values()) if kept else {}
        listed = {id_: before[part[id_]] for id_ in groups if part[id_] in before}
        users = {user for one in listed.values() for user in one.rows}
        what = "assigned groups" if direct else "groups"
        progress(what, len(listed), len(groups))

        async def read(id_: str) -> None:
            listed[id_] = await self._reader.members(id_, groups[id_].name, direct=direct)
            users.update(listed[id_].rows)
            self._client.units.tenant_has(len(users))
            if kept:
                kept.put(part[id_], listed[id_])
            progress(what, len(listed), len(groups))
            progress("users", len(users), None)

        await side_by_side(sorted(set(groups) - set(listed)), read, self._settings.concurrency)
        return listed

    async def _population(
        self, known: Mapping[str, Seen], kept: Kept | None = None, progress: Progress = unheard
    ) -> Population:
        """Read who is assigned to the application; `known` users were read already."""
        assignments = await self._reader.assignments()
        if not assignments.users and not assignments.groups:
            msg = (
                f"{self.name}: nobody is assigned to the application {self._settings.app_id}: app_id is the object id "
                "of the enterprise application (its service principal), not that of the registration"
            )
            raise IncompleteSource(msg)
        groups = await self._reader.groups_by_id(assignments.groups)
        for missing in sorted(assignments.groups - set(groups)):
            msg = f"{self.name}: the group {missing} is assigned to the application, but Graph does not show it"
            raise IncompleteSource(msg)
        for group in groups.values():
            if group.hidden:
                await self._reader.see_hidden(group.id, group.name)
        listed = await self._members(groups, kept, progress, direct=True)
        users = _newest(listed.values())
        users |= {id_: known[id_] for id_ in assignments.users & set(known)}
        others, proof = await self._reader.users(assignments.users - set(users))
        done = (assignments.finished, *proof, *(one.finished for one in listed.values()))
        compared = assignments.sum if assignments.finished.pages <= FEW_PAGES else ""
        return Population(users | others, assignments.groups, compared, done)

    # -- what has changed -----------------------------------------------------------------------------------------

    async def changes(self, wanted: Wanted, cursor: str) -> Changes:
        """Follow the delta links. Users of the whole tenant are among the changes: who is nobody's is the caller's."""
        held = Cursor.read(cursor, made_for(self._settings, wanted))
        if not wanted.bound <= held.watched:
            raise CursorLost(f"{self.name}: other groups are bound than were listed: everything is read anew")
        began = self._clock.now()
        users, groups = self._users_round(), self._groups_round()
        links = await users.follow(held.users), await groups.follow(held.groups)
        if held.assignments and (await self._reader.assignments()).sum != held.assignments:
            raise CursorLost(f"{self.name}: the application's assignments have changed: everything is read anew")
        told = {id_: seen for id_, item in users.items.items() if (seen := item.told) is not None}
        ask = set(users.items) - set(told) | self._told_of_members(held, groups.items)
        found, nested = await self._touched(wanted, held, groups.items)
        listed = await self._members(found, None, unheard, direct=False)
        members = _newest(listed.values())
        if self._settings.app_id and found:
            members = dict((await self._population(members)).users)
        seen_groups = {id_: _group(found[id_], listed[id_], members) for id_ in found}
        inside = {one for group in seen_groups.values() for one in group.members}
        ask |= {id_ for id_ in inside & set(told) if told[id_].observation != members[id_].observation}
        ask |= self._memory.removals(users.items)
        changed = told | {id_: members[id_] for id_ in inside - set(told)}
        self._memory.told(told, inside)
        return Changes(
            source=self.name,
            at=began,
            users={id_: seen for id_, seen in changed.items() if id_ not in ask},
            groups=seen_groups,
            look_up=frozenset(ask),
            cursor=self._later(held, wanted, links, found, nested).written(),
        )

    def _told_of_members(self, held: Cursor, groups: Mapping[str, Item]) -> set[str]:
        """Return who came to an assigned group or left it: whether they are still assigned, only a look can tell."""
        return {member for id_ in held.assigned & set(groups) for member in groups[id_].members}

    async def _touched(
        self, wanted: Wanted, held: Cursor, groups: Mapping[str, Item]
    ) -> tuple[dict[str, Found], dict[str, frozenset[str]]]:
        """Return the wanted groups whose members may have changed, and what is nested in them now."""
        touched = {outer for inner in groups for outer in held.nested.get(inner, ())}
        touched |= {
            id_
            for id_, item in groups.items()
            if id_ in held.watched
            or id_ in wanted.ids
            or item.torn
            or text(item.row.get("displayName")) in wanted.names
        }
        shown = await self._reader.groups_by_id(touched)
        for gone in sorted(wanted.bound & (touched - set(shown))):
            remedy = "idsync groups list, idsync groups unbind"
            log.warning("source.group_gone", source=self.name, group=gone, note="its people are kept", remedy=remedy)
        named = wanted.bound | wanted.ids
        found = {id_: group for id_, group in shown.items() if id_ in named or group.name in wanted.names}
        return found, await self._reader.nested(found.values())

    def _later(
        self,
        held: Cursor,
        wanted: Wanted,
        links: tuple[str, str],
        found: Mapping[str, Found],
        nested: Mapping[str, frozenset[str]],
    ) -> Cursor:
        before = {inner: outer - set(found) for inner, outer in held.nested.items()}
        now = _turned_round(nested)
        both = {inner: before.get(inner, frozenset()) | now.get(inner, frozenset()) for inner in before | now}
        return replace(
            held,
            users=links[0],
            groups=links[1],
            watched=held.watched | set(found),
            nested={inner: outer for inner, outer in both.items() if outer},
        )

    def _users_round(self) -> Round:
        return Round(self._client, self._settings.base, f"{self.name}: changes of users", "users/delta", READ_USERS)

    def _groups_round(self) -> Round:
        return Round(self._client, self._settings.base, f"{self.name}: changes of groups", "groups/delta", READ_MEMBERS)

    async def events(self, cursor: str) -> Changes:
        """Graph has no log here that tells more than the changes."""
        return Changes(self.name, self._clock.now(), cursor=cursor)

    # -- one user -------------------------------------------------------------------------------------------------

    async def look_up(self, external_id: str, groups: Collection[str]) -> Look:
        """Read one user by id, and in which of the groups they are; with `app_id`, in none without an assignment."""
        call = self._reader.user(external_id)
        answer = await self._client.send(call)
        if answer.status == 404:
            return Look(await self._gone(external_id, answer.at, said=is_nowhere(answer)), None)
        seen = self._reader.seen(answer, call, external_id)
        if not groups:
            return Look(seen, frozenset())
        inside = await self._reader.groups_of(external_id, groups)
        if inside and self._settings.app_id:
            at, assigned = await self._assigned_ids()
            seen = replace(seen, at=min(seen.at, at))
            inside = inside if external_id in assigned else frozenset()
        return Look(seen, inside)

    async def _gone(self, external_id: str, at: float, *, said: bool) -> Seen:
        """Return what a user is whom Graph does not find: deleted, or perhaps only not there yet."""
        if not said:
            return Seen(external_id, external_id, Observation.UNKNOWN, "404 that is not Graph's own", at)
        if await self._reader.is_in_bin(external_id):
            return Seen(external_id, external_id, Observation.INACTIVE, "soft-deleted", at)
        if self._memory.is_young(external_id):
            return Seen(external_id, external_id, Observation.UNKNOWN, "404 so soon after the user appeared", at)
        return Seen(
            external_id, external_id, Observation.ABSENT, "404 Request_ResourceNotFound, not in deletedItems", at
        )

    async def _assigned_ids(self) -> tuple[float, frozenset[str]]:
        """Return who is assigned to the application, as of when; read anew once a minute."""
        now = self._clock.monotonic()
        if self._assigned is None or now - self._assigned[0] > FRESH:
            population = await self._population({})
            self._assigned = (now, min(one.at for one in population.proof), frozenset(population.users))
        return self._assigned[1], self._assigned[2]

    # -- permissions ----------------------------------------------------------------------------------------------

    async def check(self) -> list[tuple[str, bool, str]]:
        """Try the credential, then each permission by the smallest request that needs it."""
        return await check(self._settings, self._tokens, self._client, self._reader, self._hidden)


def _group(group: Found, listed: Listed[Seen], users: Mapping[str, Seen]) -> SeenGroup:
    """Return a group with those of its members who count."""
    return SeenGroup(group.id, group.name, frozenset(id_ for id_ in listed.rows if id_ in users), listed.finished.at)


def _newest(listed: Iterable[Listed[Seen]]) -> dict[str, Seen]:
    """Return everybody, as they were shown last; somewhere unknown, elsewhere not: then not."""
    users: dict[str, Seen] = {}
    for one in listed:
        for id_, seen in one.rows.items():
            there = users.setdefault(id_, seen)
            if there is not seen and _says_more(seen, there):
                users[id_] = seen
    return users


def _says_more(one: Seen, other: Seen) -> bool:
    known, before = (seen.observation is not Observation.UNKNOWN for seen in (one, other))
    return known and (not before or one.at > other.at)


def _turned_round(nested: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the groups that each nested group is in."""
    outer: dict[str, set[str]] = {}
    for group, inner in nested.items():
        for one in inner:
            outer.setdefault(one, set()).add(group)
    return {inner: frozenset(groups) for inner, groups in outer.items()}
