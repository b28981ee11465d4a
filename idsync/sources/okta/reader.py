"""What is read of an org: groups, their members, who is assigned to the app, and whether a group or the app is shown.

Every listing is followed to its end by the pager, and compared with what Okta counts itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import quote

from idsync.clock import Clock
from idsync.errors import IncompleteSource
from idsync.side_by_side import side_by_side
from idsync.snapshot import Finished, Progress, Seen, Wanted, unheard
from idsync.sources.okta.http import Credential, Wire
from idsync.sources.okta.records import GroupRow, group_of, id_of, page_of, says_not_found, seen_of
from idsync.sources.okta.settings import OktaSettings
from idsync.sources.pager import Answer, Listed, read_all, whole_json

ONE_BY_ONE = 20
"""Of how many people or groups something is asked one by one before all of them are listed again."""
TRUSTED_FOR = 15.0
"""Seconds for which an app or a group that was visible counts as visible."""

_OF_USERS = ("users", "members", "user")
_LEAN = {"Content-Type": "application/json; okta-response=omitCredentials,omitCredentialsLinks"}
"""Asks for user records without what nobody reads here, which costs Okta less. Transitions have to stay."""


class Reader:
    """Reads; remembers who was `assigned` to the app when that was last read (None: never), and what was visible."""

    def __init__(self, settings: OktaSettings, wire: Wire, credential: Credential, clock: Clock) -> None:
        self._settings = settings
        self._wire = wire
        self._credential = credential
        self._clock = clock
        self._visible: dict[str, float] = {}
        self.assigned: set[str] | None = None

    # -- one person ---------------------------------------------------------------------------------------------------

    async def groups_of(self, external_id: str, asked: frozenset[str]) -> frozenset[str]:
        """Return in which groups somebody is. A group nobody can see says nothing of who is not in it."""
        if not asked:
            return frozenset()
        found: set[str] = set()

        def take(rows: list[Any], _at: float) -> None:
            found.update(id_of(row, f"{self._wire.name}: groups of a user") for row in rows)

        await self._list(f"/api/v1/users/{external_id}/groups", "user_groups", "groups of a user", take)
        await self.make_sure_of(asked - found)
        return asked & found

    async def make_sure_of(self, groups: Collection[str]) -> None:
        """Make sure that we may see these groups: whoever is not in a hidden group was not taken out of it.

        Raises:
            IncompleteSource: one is hidden.
        """
        now = self._clock.monotonic()
        unsure = sorted(group for group in groups if self._visible.get(group, 0.0) <= now)
        if len(unsure) > ONE_BY_ONE:
            shown = {row.id for row in (await self._groups("", "groups"))[0]}
            self._note_visible(shown.intersection(unsure))
            if hidden := [group for group in unsure if group not in shown]:
                raise self._hidden(hidden)
            return
        for group in unsure:
            what = f"{self._wire.name}: group {group}"
            answer = await self.get(f"/api/v1/groups/{quote(group, safe='')}", "group")
            if says_not_found(answer, what) or id_of(whole_json(answer, what), what) != group:
                self._visible.pop(group, None)
                raise self._hidden([group])
            self._note_visible([group])

    def _note_visible(self, seen: Iterable[str]) -> None:
        self._visible.update(dict.fromkeys(seen, self._clock.monotonic() + TRUSTED_FOR))

    # -- listings -----------------------------------------------------------------------------------------------------

    async def wanted_groups(self, wanted: Wanted) -> tuple[list[GroupRow], Finished]:
        """List all groups and return those that matter, by id.

        Raises:
            IncompleteSource: a bound one is not shown.
        """
        rows, listing = await self._groups("", "groups")
        found = {row.id: row for row in rows if row.name in wanted.names or row.id in wanted.ids | wanted.bound}
        if hidden := wanted.bound - found.keys():
            raise self._hidden(sorted(hidden))
        self._visible.clear()
        self._note_visible(found)
        return [found[one] for one in sorted(found)], listing

    def _hidden(self, groups: list[str]) -> IncompleteSource:
        named = ", ".join(groups[:5]) + (f" and {len(groups) - 5} more" if len(groups) > 5 else "")
        return IncompleteSource(
            f"{self._wire.name}: Okta does not show group {named}, which is bound; nobody loses anything by that."
            " Was idsync's admin role narrowed? If the group was deleted on purpose: idsync groups unbind"
        )

    async def _groups(self, condition: str, what: str) -> tuple[list[GroupRow], Finished]:
        rows: dict[str, GroupRow] = {}

        def take(page: list[Any], _at: float) -> None:
            rows.update({row.id: row for given in page if (row := group_of(given, f"{self._wire.name}: {what}"))})

        path = f"/api/v1/groups?limit={self._settings.page}&expand=stats{condition}"
        listing = await self._list(path, "groups", what, take)
        return list(rows.values()), listing

    async def changed_groups(self, moment: str) -> list[GroupRow]:
        """Return the groups that changed, or got or lost members, after a moment (RFC 3339)."""
        newer = quote(f'lastMembershipUpdated gt "{moment}" or lastUpdated gt "{moment}"', safe="")
        return (await self._groups(f"&filter={newer}", "changed groups"))[0]

    async def changed_users(self, moment: str) -> Listed[Seen]:
        """Return the people who changed after a moment (RFC 3339)."""
        people: dict[str, Seen] = {}
        newer = quote(f'lastUpdated gt "{moment}"', safe="")
        path = f"/api/v1/users?limit={self._settings.page}&filter={newer}"
        return Listed(people, await self._list(path, "users", "changed users", _seen_into(people)))

    async def rows_of(self, groups: Collection[str]) -> list[GroupRow]:
        """Return groups as they are now; one that is not shown is left out: a full pass will say so."""
        rows = []
        for group in sorted(groups):
            condition = quote(f'id eq "{group}"', safe="")
            rows += [row for row in (await self._groups(f"&filter={condition}", "group"))[0] if row.id == group]
        return rows

    async def members(self, row: GroupRow) -> Listed[Seen]:
        """List the members of a group, once more if Okta counts more than it lists.

        Raises:
            IncompleteSource: it still does, or it shows none without saying that there are none.
        """
        listed = await self._list_members(row)
        if len(listed.rows) >= row.at_least:
            return listed
        again = await self.rows_of([row.id])
        if not again:
            raise self._hidden([row.id])
        listed = await self._list_members(row)
        if len(listed.rows) < again[0].at_least:
            told = "says nothing" if again[0].count is None else f"counts {again[0].count}"
            msg = f"{self._wire.name}: group {row.name!r}: {len(listed.rows)} members were listed, Okta {told}"
            raise IncompleteSource(msg)
        return listed

    async def _list_members(self, row: GroupRow) -> Listed[Seen]:
        people: dict[str, Seen] = {}
        path = f"/api/v1/groups/{quote(row.id, safe='')}/users?limit={self._settings.page}"
        listing = await self._list(path, "members", f"members of group {row.name!r}", _seen_into(people))
        return Listed(people, listing)

    async def everybody_assigned(self, progress: Progress = unheard) -> Listed[Seen]:
        """List the people assigned to the app.

        Raises:
            IncompleteSource: there is nobody, which would be everybody's departure and is not believed.
        """
        people: dict[str, Seen] = {}
        take = _seen_into(people, _user_of_assignment)

        def told(rows: list[Any], at: float) -> None:
            take(rows, at)
            progress("users", len(people), None)

        app = quote(self._settings.app_id, safe="")
        path = f"/api/v1/apps/{app}/users?limit={self._settings.app_page}&expand=user"
        listing = await self._list(path, "app_users", f"people of app {self._settings.app_id}", told)
        if not people:
            msg = f"{self._wire.name}: nobody is assigned to app {self._settings.app_id}, which is not believed"
            raise IncompleteSource(msg)
        return Listed(people, listing)

    async def _list(self, path: str, endpoint: str, what: str, take: Callable[[list[Any], float], None]) -> Finished:
        named = f"{self._wire.name}: {what}"
        known: set[str] = set()

        def take_new(rows: list[Any], at: float) -> None:
            before = len(known)
            known.update(id_of(row, named) for row in rows)
            if rows and len(known) == before:
                msg = f"{named}: a page repeats what was listed before"
                raise IncompleteSource(msg)
            take(rows, at)

        async def fetch(url: str) -> Answer:
            return await self.get(url, endpoint)

        return await read_all(
            fetch,
            self._wire.base + path,
            lambda answer: page_of(answer, named),
            take_new,
            base=self._wire.base,
            what=named,
        )

    async def get(self, address: str, endpoint: str) -> Answer:
        url = self._wire.base + address if address.startswith("/") else address
        return await self._wire.get(url, endpoint, self._credential, _LEAN if endpoint in _OF_USERS else None)

    # -- the app ------------------------------------------------------------------------------------------------------

    async def app_is_active(self, *, anew: bool = False) -> None:
        """Make sure that the app is there: without it nobody is assigned, which says nothing about anybody.

        Raises:
            IncompleteSource: it is not there, or not active.
        """
        app = self._settings.app_id
        if not anew and self._visible.get(app, 0.0) > self._clock.monotonic():
            return
        self._visible.pop(app, None)
        what = f"{self._wire.name}: app {app}"
        answer = await self.get(f"/api/v1/apps/{quote(app, safe='')}", "app")
        record = None if says_not_found(answer, what) else whole_json(answer, what)
        status = record.get("status") if isinstance(record, dict) and record.get("id") == app else "not there"
        if status != "ACTIVE":
            msg = f"{what} is {str(status)[:40]}, so its assignments say nothing; nobody loses anything by that"
            raise IncompleteSource(msg)
        self._note_visible([app])

    async def is_assigned(self, user: str) -> bool:
        what = f"{self._wire.name}: assignment"
        app = quote(self._settings.app_id, safe="")
        answer = await self.get(f"/api/v1/apps/{app}/users/{quote(user, safe='')}", "app_user")
        if says_not_found(answer, what):
            await self.app_is_active(anew=True)
            if self.assigned is not None:
                self.assigned.discard(user)
            return False
        if id_of(whole_json(answer, what), what) != user:
            msg = f"{what}: another user was shown than the one asked for"
            raise IncompleteSource(msg)
        if self.assigned is not None:
            self.assigned.add(user)
        return True

    async def assigned_of(self, people: Collection[str]) -> frozenset[str]:
        """Return who of these is assigned: as listed last, else asked one by one, or by listing everybody anew."""
        strangers = [one for one in people if self.assigned is None or one not in self.assigned]
        if len(strangers) > ONE_BY_ONE:
            await self.app_is_active()
            self.assigned = set((await self.everybody_assigned()).rows)
            return frozenset(people) & self.assigned
        found = set(people).difference(strangers)

        async def ask(one: str) -> None:
            if await self.is_assigned(one):
                found.add(one)

        await side_by_side(strangers, ask, self._settings.concurrency)
        return frozenset(found)


def _seen_into(
    people: dict[str, Seen], user_of: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row
) -> Callable[[list[Any], float], None]:
    """Return what takes a page of users; of one who is listed twice, the later record counts."""

    def take(rows: list[Any], at: float) -> None:
        for row in rows:
            people[row["id"]] = seen_of(user_of(row), row["id"], at)

    return take


def _user_of_assignment(row: dict[str, Any]) -> dict[str, Any]:
    """Return the user record within an assignment; without it nothing is known of the person but the id."""
    embedded = row.get("_embedded")
    user = embedded.get("user") if isinstance(embedded, dict) else None
    return user if isinstance(user, dict) and user.get("id") == row["id"] else {}
