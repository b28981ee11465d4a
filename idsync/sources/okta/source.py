"""An Okta org, polled: everybody with access, the members of the groups that matter, and what has changed since.

A full pass lists all groups once (so a bound group that is hidden is noticed), then the members of each wanted one,
and with `app_id` the people assigned to that app: then only they count. What Okta counts itself has to agree.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from idsync.clock import Clock, rfc3339
from idsync.errors import ConfigError, CursorLost, IncompleteSource, SourceRefused
from idsync.model import Observation
from idsync.side_by_side import side_by_side
from idsync.snapshot import (
    Changes,
    Finished,
    Look,
    Parts,
    Progress,
    Seen,
    SeenGroup,
    Snapshot,
    Wanted,
    unheard,
)
from idsync.sources.okta.auth import ApiToken, DPoP, Secret, ServiceApp
from idsync.sources.okta.http import Observe, Wire, unmeasured
from idsync.sources.okta.limits import Sleep
from idsync.sources.okta.log import LogCursor, Round, first_address, limit_of
from idsync.sources.okta.parts import Kept
from idsync.sources.okta.records import NOT_FOUND, GroupRow, group_of, id_of, page_of, says_not_found, seen_of
from idsync.sources.pager import Answer, is_within, read_all, whole_json

SCOPES = ("okta.users.read", "okta.groups.read", "okta.logs.read")
APPS_SCOPE = "okta.apps.read"

ROUND_PAGES = 10
"""Pages of the log after which what was found is handed over before reading on."""
ONE_BY_ONE = 20
"""Of how many people or groups something is asked one by one before all of them are listed again."""
TRUSTED_FOR = 15.0
"""Seconds for which an app or a group that was visible counts as visible."""


@dataclass(frozen=True)
class OktaSettings:
    """How one org is reached and read. Durations in seconds.

    Either `client_id` and `private_key` (PEM or JWK text) or `api_token`; both are read when needed, so they can be
    exchanged without a restart. `app_id`: only people assigned to this app count; empty: the members of the groups
    do. `scopes` empty: those that are needed. `rate_share`: at most that part of each bucket is used. `page`, `app_page`, `log_page`: the most Okta gives at once.
    `give_up_after`: without any usable answer for so long, a pass ends.
    """

    name: str
    org_url: str
    client_id: str = ""
    private_key: Secret | None = field(default=None, repr=False)
    key_id: str = ""
    api_token: Secret | None = field(default=None, repr=False)
    dpop: DPoP = "auto"
    app_id: str = ""
    scopes: tuple[str, ...] = ()
    timeout: float = 30.0
    rate_share: float = 0.5
    concurrency: int = 4
    ca_file: str = ""
    overlap: float = 300.0
    page: int = 200
    app_page: int = 500
    log_page: int = 1000
    give_up_after: float = 900.0

    def asked_scopes(self) -> tuple[str, ...]:
        return self.scopes or (*SCOPES, *([APPS_SCOPE] if self.app_id else []))


class OktaSource:
    """One org, as a `PolledSource`.

    Raises:
        ConfigError: the address cannot be an org's, or there is not exactly one credential.
    """

    patience = 1  # what is missing is read by id, and that read is strongly consistent

    def __init__(
        self,
        settings: OktaSettings,
        clock: Clock,
        observe: Observe = unmeasured,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        _refuse_settings(settings)
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._base = settings.org_url.rstrip("/")
        self._wire = Wire(
            settings.name,
            self._base,
            clock,
            timeout=settings.timeout,
            share=settings.rate_share,
            concurrency=settings.concurrency,
            patience=settings.give_up_after,
            ca_file=settings.ca_file,
            observe=observe,
            sleep=sleep,
        )
        self._credential: ApiToken | ServiceApp = self._made_credential()
        self._matter: frozenset[str] | None = None
        self._assigned: set[str] | None = None
        self._visible: dict[str, float] = {}

    async def close(self) -> None:
        await self._wire.close()

    # everything

    async def snapshot(self, wanted: Wanted, parts: Parts, progress: Progress = unheard) -> Snapshot:
        kept = Kept(parts, self._clock, f"{self._base} {self._settings.app_id}")
        sent = kept.sent or self._clock.now()
        proof: list[Finished] = []
        rows, listing = await self._wanted_groups(wanted)
        proof.append(listing)
        since = kept.begin(sent, sent + self._wire.clock_is_off)
        users: dict[str, Seen] = {}
        assigned: frozenset[str] | None = None
        if self._settings.app_id:
            await self._app_is_active()
            people, listing = await self._kept(kept, "app", lambda: self._read_assigned(progress))
            users.update(people)
            proof.append(listing)
            assigned, self._assigned = frozenset(people), set(people)
        groups: dict[str, SeenGroup] = {}

        async def read(row: GroupRow) -> None:
            people, listing = await self._kept(kept, f"group {row.id}", lambda: self._read_members(row))
            proof.append(listing)
            counted = _add(users, people, only=assigned)
            groups[row.id] = SeenGroup(row.id, row.name, counted, listing.at)
            progress("groups", len(groups), len(rows))

        await side_by_side(rows, read, self._settings.concurrency)
        self._matter = frozenset(groups) | wanted.bound | wanted.ids
        kept.end()
        return Snapshot(self.name, users, groups, tuple(proof), _Since(self._base, since).written())

    async def _kept(self, kept: Kept, name: str, read: Callable[[], Any]) -> tuple[dict[str, Seen], Finished]:
        before = kept.get(name)
        if before is not None:
            return before
        found: tuple[dict[str, Seen], Finished] = await read()
        kept.put(name, *found)
        return found

    # what has changed

    async def changes(self, wanted: Wanted, cursor: str) -> Changes:
        since = _Since.read(cursor, self._base, self.name).at
        sent = self._clock.now()
        moment = rfc3339(since - self._settings.overlap)
        users: dict[str, Seen] = {}
        newer = quote(f'lastUpdated gt "{moment}"', safe="")
        listing = await self._list(
            f"/api/v1/users?limit={self._settings.page}&filter={newer}", "users", "changed users", _seen_into(users)
        )
        now = sent + self._wire.clock_is_off
        newer = quote(f'lastMembershipUpdated gt "{moment}" or lastUpdated gt "{moment}"', safe="")
        rows, _ = await self._groups(f"&filter={newer}", "changed groups")
        changed = [row for row in rows if row.name in wanted.names or row.id in wanted.ids | wanted.bound]
        self._matter = frozenset(row.id for row in changed) | wanted.ids | wanted.bound | (self._matter or frozenset())
        groups = await self._read_again(changed, users)
        return Changes(self.name, listing.at, users, groups, cursor=_Since(self._base, now).written())

    async def _read_again(self, rows: Iterable[GroupRow], users: dict[str, Seen]) -> dict[str, SeenGroup]:
        """Read groups in full; their members that count are added to `users`."""
        read: dict[str, tuple[GroupRow, dict[str, Seen], float]] = {}

        async def one(row: GroupRow) -> None:
            people, listing = await self._read_members(row)
            read[row.id] = row, people, listing.at

        await side_by_side(rows, one, self._settings.concurrency)
        everybody = {person for _, people, _ in read.values() for person in people}
        counted = await self._assigned_of(everybody) if self._settings.app_id and everybody else None
        return {
            row.id: SeenGroup(row.id, row.name, _add(users, people, only=counted), at)
            for row, people, at in read.values()
        }

    async def events(self, cursor: str) -> Changes:
        sent = self._clock.now()
        if cursor:
            before = LogCursor.read(cursor, self._base, sent, self.name)
        else:
            since = rfc3339(self._wire.server_time() - self._settings.overlap)
            before = LogCursor(first_address(self._base, since, self._settings.log_page), (), sent)
        address, more = before.address, True
        found = Round(self._matter, self._settings.app_id, dict.fromkeys(before.known))
        try:
            for _ in range(ROUND_PAGES):
                address, more = await self._log_page(address, found, stored=bool(cursor))
                if not more:
                    break
        except SourceRefused as error:
            if cursor or error.status != 403:
                raise
            return Changes(self.name, sent)  # never allowed to read the log: polls alone then, and `check` says so
        if found.app:
            await self._app_is_active(anew=True)
        if found.groups:
            self._assigned = None  # a group's assignment to the app may have changed, and with it its members'
        users: dict[str, Seen] = {}
        groups = await self._read_again(await self._rows_of(found.groups), users)
        after = LogCursor(address, tuple(found.known), sent)
        return Changes(self.name, sent, users, groups, frozenset(found.users), after.written(), more)

    async def _log_page(self, address: str, found: Round, *, stored: bool) -> tuple[str, bool]:
        """Read one page; return where the next one is, and whether there is more now."""
        what = f"{self.name}: log"
        answer = await self._get(address, "logs")
        if stored and answer.status in (400, 404, 410):
            msg = f"{what}: Okta does not know any more where it was read to; a full pass is needed"
            raise CursorLost(msg)
        page = page_of(answer, what)
        found.take(page.rows, what)
        if page.following is None:
            msg = f"{what}: no link to what comes next; a full pass is needed"
            raise CursorLost(msg)
        full = len(page.rows) >= limit_of(address, self._settings.log_page)
        if not is_within(page.following, self._base) or (full and page.following == address):
            msg = f"{what}: it goes on at another address, or does not go on"
            raise IncompleteSource(msg)
        return page.following, full

    # one person

    async def look_up(self, external_id: str, groups: Collection[str]) -> Look:
        if not _ID.fullmatch(external_id):
            return Look(Seen(external_id, "", Observation.UNKNOWN, "no id of Okta's", self._clock.now()), None)
        what = f"{self.name}: user"
        answer = await self._get(f"/api/v1/users/{external_id}", "user")
        if says_not_found(answer, what):
            await self._make_sure_of(groups)  # a narrowed role hides people in the same words
            return Look(Seen(external_id, "", Observation.ABSENT, f"404 {NOT_FOUND}", answer.at), frozenset())
        record = whole_json(answer, what)
        if id_of(record, what) != external_id:
            msg = f"{what}: another user was shown than the one asked for"
            raise IncompleteSource(msg)
        seen = seen_of(record, external_id, answer.at)
        if seen.observation is Observation.INACTIVE:
            return Look(seen, None)
        if self._settings.app_id and not await self._is_assigned(external_id):
            why = f"{seen.why}, not assigned to app {self._settings.app_id}"
            return Look(replace(seen, why=why), frozenset())
        return Look(seen, await self._groups_of(external_id, frozenset(groups)))

    async def _groups_of(self, external_id: str, asked: frozenset[str]) -> frozenset[str]:
        """Return in which groups somebody is. A group nobody can see says nothing of who is not in it."""
        if not asked:
            return frozenset()
        found: set[str] = set()

        def take(rows: list[Any], _at: float) -> None:
            found.update(id_of(row, f"{self.name}: groups of a user") for row in rows)

        await self._list(f"/api/v1/users/{external_id}/groups", "user_groups", "groups of a user", take)
        await self._make_sure_of(asked - found)
        return asked & found

    async def _make_sure_of(self, groups: Collection[str]) -> None:
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
            what = f"{self.name}: group {group}"
            answer = await self._get(f"/api/v1/groups/{quote(group, safe='')}", "group")
            if says_not_found(answer, what) or id_of(whole_json(answer, what), what) != group:
                self._visible.pop(group, None)
                raise self._hidden([group])
            self._note_visible([group])

    def _note_visible(self, seen: Iterable[str]) -> None:
        self._visible.update(dict.fromkeys(seen, self._clock.monotonic() + TRUSTED_FOR))

    # whether all is there that is needed

    async def check(self) -> list[tuple[str, bool, str]]:
        lines = [await self._check_scope(scope, path) for scope, path in self._probes()]
        if isinstance(self._credential, ApiToken):
            advice = (
                "an API token has all the power of the administrator who made it, dies when they are deactivated and"
                " after 30 days without use: better a service app with a key (docs/okta.md)"
            )
            lines.append(("API token", True, advice))
        return lines

    def _probes(self) -> list[tuple[str, str]]:
        since = quote(rfc3339(self._wire.server_time() - 60.0), safe="")
        app = quote(self._settings.app_id, safe="")
        probes = [
            ("okta.users.read", "/api/v1/users?limit=1&filter=" + quote('status eq "ACTIVE"', safe="")),
            ("okta.groups.read", "/api/v1/groups?limit=1"),
            ("okta.logs.read", f"/api/v1/logs?limit=1&sortOrder=ASCENDING&since={since}"),
        ]
        return probes + ([(APPS_SCOPE, f"/api/v1/apps/{app}/users?limit=1")] if app else [])

    async def _check_scope(self, scope: str, path: str) -> tuple[str, bool, str]:
        what = f"{scope} ({_FOR[scope]})"
        credential = self._credential
        if isinstance(credential, ServiceApp):
            credential = credential.asking_for(scope)
            try:
                await credential.headers(self._base)
            except SourceRefused as error:
                return what, False, f"{error}. In the app: Okta API Scopes, grant {scope}"
            except IncompleteSource as error:
                return what, False, str(error)
        try:
            whole_json(await self._wire.get(self._base + path, "check", credential), f"{self.name}: {scope}")
        except SourceRefused as error:
            role = f"give the app (or the token's owner) an admin role that may view {_VIEWS[scope]}"
            return what, False, f"{error}: {role}"
        except IncompleteSource as error:
            return what, False, str(error)
        return what, True, ""

    # the listings

    async def _wanted_groups(self, wanted: Wanted) -> tuple[list[GroupRow], Finished]:
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
            f"{self.name}: Okta does not show group {named}, which is bound; nobody loses anything by that."
            " Was idsync's admin role narrowed? If the group was deleted on purpose: idsync groups unbind"
        )

    async def _groups(self, condition: str, what: str) -> tuple[list[GroupRow], Finished]:
        rows: dict[str, GroupRow] = {}

        def take(page: list[Any], _at: float) -> None:
            rows.update({row.id: row for given in page if (row := group_of(given, f"{self.name}: {what}"))})

        path = f"/api/v1/groups?limit={self._settings.page}&expand=stats{condition}"
        listing = await self._list(path, "groups", what, take)
        return list(rows.values()), listing

    async def _rows_of(self, groups: Collection[str]) -> list[GroupRow]:
        """Return groups as they are now; one that is not shown is left out: a full pass will say so."""
        rows = []
        for group in sorted(groups):
            condition = quote(f'id eq "{group}"', safe="")
            rows += [row for row in (await self._groups(f"&filter={condition}", "group"))[0] if row.id == group]
        return rows

    async def _read_members(self, row: GroupRow) -> tuple[dict[str, Seen], Finished]:
        """List the members of a group, once more if Okta counts more than it lists.

        Raises:
            IncompleteSource: it still does, or it shows none without saying that there are none.
        """
        people, listing = await self._list_members(row)
        if len(people) >= row.at_least:
            return people, listing
        again = await self._rows_of([row.id])
        if not again:
            raise self._hidden([row.id])
        people, listing = await self._list_members(row)
        if len(people) < again[0].at_least:
            told = "says nothing" if again[0].count is None else f"counts {again[0].count}"
            msg = f"{self.name}: group {row.name!r}: {len(people)} members were listed, Okta {told}"
            raise IncompleteSource(msg)
        return people, listing

    async def _list_members(self, row: GroupRow) -> tuple[dict[str, Seen], Finished]:
        people: dict[str, Seen] = {}
        path = f"/api/v1/groups/{quote(row.id, safe='')}/users?limit={self._settings.page}"
        listing = await self._list(path, "members", f"members of group {row.name!r}", _seen_into(people))
        return people, listing

    async def _read_assigned(self, progress: Progress = unheard) -> tuple[dict[str, Seen], Finished]:
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
            msg = f"{self.name}: nobody is assigned to app {self._settings.app_id}, which is not believed"
            raise IncompleteSource(msg)
        return people, listing

    async def _list(self, path: str, endpoint: str, what: str, take: Callable[[list[Any], float], None]) -> Finished:
        named = f"{self.name}: {what}"
        known: set[str] = set()

        def take_new(rows: list[Any], at: float) -> None:
            before = len(known)
            known.update(id_of(row, named) for row in rows)
            if rows and len(known) == before:
                msg = f"{named}: a page repeats what was listed before"
                raise IncompleteSource(msg)
            take(rows, at)

        async def fetch(url: str) -> Answer:
            return await self._get(url, endpoint)

        return await read_all(
            fetch, self._base + path, lambda answer: page_of(answer, named), take_new, base=self._base, what=named
        )

    async def _get(self, address: str, endpoint: str) -> Answer:
        url = self._base + address if address.startswith("/") else address
        return await self._wire.get(url, endpoint, self._credential, _LEAN if endpoint in _OF_USERS else None)

    # the app

    async def _app_is_active(self, *, anew: bool = False) -> None:
        """Make sure that the app is there: without it nobody is assigned, which says nothing about anybody.

        Raises:
            IncompleteSource: it is not there, or not active.
        """
        app = self._settings.app_id
        if not anew and self._visible.get(app, 0.0) > self._clock.monotonic():
            return
        self._visible.pop(app, None)
        what = f"{self.name}: app {app}"
        answer = await self._get(f"/api/v1/apps/{quote(app, safe='')}", "app")
        record = None if says_not_found(answer, what) else whole_json(answer, what)
        status = record.get("status") if isinstance(record, dict) and record.get("id") == app else "not there"
        if status != "ACTIVE":
            msg = f"{what} is {str(status)[:40]}, so its assignments say nothing; nobody loses anything by that"
            raise IncompleteSource(msg)
        self._note_visible([app])

    async def _is_assigned(self, user: str) -> bool:
        what = f"{self.name}: assignment"
        app = quote(self._settings.app_id, safe="")
        answer = await self._get(f"/api/v1/apps/{app}/users/{quote(user, safe='')}", "app_user")
        if says_not_found(answer, what):
            await self._app_is_active(anew=True)
            if self._assigned is not None:
                self._assigned.discard(user)
            return False
        if id_of(whole_json(answer, what), what) != user:
            msg = f"{what}: another user was shown than the one asked for"
            raise IncompleteSource(msg)
        if self._assigned is not None:
            self._assigned.add(user)
        return True

    async def _assigned_of(self, people: Collection[str]) -> frozenset[str]:
        """Return who of these is assigned: as listed last, else asked one by one, or by listing everybody anew."""
        strangers = [one for one in people if self._assigned is None or one not in self._assigned]
        if len(strangers) > ONE_BY_ONE:
            await self._app_is_active()
            self._assigned = set((await self._read_assigned())[0])
            return frozenset(people) & self._assigned
        found = set(people).difference(strangers)

        async def ask(one: str) -> None:
            if await self._is_assigned(one):
                found.add(one)

        await side_by_side(strangers, ask, self._settings.concurrency)
        return frozenset(found)

    def _made_credential(self) -> ApiToken | ServiceApp:
        settings = self._settings
        if settings.private_key is None:
            return ApiToken(settings.api_token or str, self.name)
        return ServiceApp(
            self._wire,
            self._clock,
            client_id=settings.client_id,
            key=settings.private_key,
            key_id=settings.key_id,
            scopes=settings.asked_scopes(),
            dpop=settings.dpop,
        )


_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")

_OF_USERS = ("users", "members", "user")
_LEAN = {"Content-Type": "application/json; okta-response=omitCredentials,omitCredentialsLinks"}
"""Asks for user records without what nobody reads here, which costs Okta less. Transitions have to stay."""

_FOR = {
    "okta.users.read": "reading people by id, and who has changed",
    "okta.groups.read": "reading groups and their members",
    "okta.logs.read": "the System Log, by which leavers are seen within a minute",
    APPS_SCOPE: "reading who is assigned to the app",
}
_VIEWS = {
    "okta.users.read": "all users",
    "okta.groups.read": "all groups and their members",
    "okta.logs.read": "the System Log",
    APPS_SCOPE: "the app and its assignments",
}


def _refuse_settings(settings: OktaSettings) -> None:
    problems = []
    parts = urlsplit(settings.org_url)
    host = parts.hostname or ""
    if parts.scheme != "https" and host not in ("127.0.0.1", "::1", "localhost"):
        problems.append(("org_url", "has to begin with https://"))
    if "-admin" in host.partition(".")[0]:
        problems.append(("org_url", "is the address of the admin console; the API is at the one without -admin"))
    if (settings.api_token is None) == (settings.private_key is None or not settings.client_id):
        problems.append(("private_key_file", "either client_id with private_key_file, or api_token_file, and not both"))
    if problems:
        raise ConfigError([(f"sources.okta.{settings.name}.{path}", what) for path, what in problems])


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


def _add(users: dict[str, Seen], people: dict[str, Seen], only: Collection[str] | None) -> frozenset[str]:
    """Add people who count and return their ids; of somebody seen twice the newer record stays."""
    counted = people if only is None else {one: seen for one, seen in people.items() if one in only}
    for one, seen in counted.items():
        before = users.get(one)
        users[one] = seen if before is None or before.at <= seen.at else before
    return frozenset(counted)


@dataclass(frozen=True)
class _Since:
    """The cursor of `changes`: up to when, by Okta's own clock, changes were read from this org."""

    org: str
    at: float

    def written(self) -> str:
        return json.dumps({"v": 1, "org": self.org, "since": self.at})

    @classmethod
    def read(cls, given: str, org: str, name: str) -> _Since:
        """Read a stored cursor. Raises CursorLost: it is none of ours, or another org's."""
        try:
            shown = json.loads(given)
            if shown["v"] == 1 and shown["org"] == org:
                return cls(org, float(shown["since"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        msg = f"{name}: up to when changes were read is not known any more; a full pass is needed"
        raise CursorLost(msg)
