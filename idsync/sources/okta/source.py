"""An Okta org, polled: everybody with access, the members of the groups that matter, and what has changed since.

A full pass lists all groups once (so a bound group that is hidden is noticed), then the members of each wanted one,
and with `app_id` the people assigned to that app: then only they count. What Okta counts itself has to agree.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace

from idsync.clock import Clock, rfc3339
from idsync.errors import CursorLost, IncompleteSource, SourceRefused
from idsync.model import Observation
from idsync.side_by_side import side_by_side
from idsync.snapshot import Changes, Finished, Look, Parts, Progress, Seen, SeenGroup, Snapshot, Wanted, unheard
from idsync.sources.kept import Kept
from idsync.sources.okta.auth import ApiToken, ServiceApp
from idsync.sources.okta.check import check
from idsync.sources.okta.http import Observe, Wire, unmeasured
from idsync.sources.okta.limits import Sleep
from idsync.sources.okta.log import LogCursor, Round, first_address, limit_of
from idsync.sources.okta.reader import Reader
from idsync.sources.okta.records import NOT_FOUND, GroupRow, id_of, page_of, says_not_found, seen_of
from idsync.sources.okta.settings import OktaSettings, refuse_settings
from idsync.sources.pager import Listed, is_within, whole_json

__all__ = ["OktaSettings", "OktaSource"]

ROUND_PAGES = 10
"""Pages of the log after which what was found is handed over before reading on."""
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")


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
        refuse_settings(settings)
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
        self._reader = Reader(settings, self._wire, self._credential, clock)
        self._matter: frozenset[str] | None = None

    async def close(self) -> None:
        await self._wire.close()

    # -- everything ---------------------------------------------------------------------------------------------------

    async def snapshot(self, wanted: Wanted, parts: Parts, progress: Progress = unheard) -> Snapshot:
        sent = self._clock.now()
        kept = Kept(parts, f"{self._base} {self._settings.app_id}", sent)
        rows, listing = await self._reader.wanted_groups(wanted)
        if kept.noted is None:
            kept.begin(sent, sent + self._wire.clock_is_off)
        proof: list[Finished] = [listing]
        before = kept.load(["app", *(f"group {row.id}" for row in rows)])

        async def listed(part: str, read: Callable[[], Awaitable[Listed[Seen]]]) -> Listed[Seen]:
            found = before.pop(part, None)
            if found is None:
                found = await read()
                kept.put(part, found)
            proof.append(found.finished)
            return found

        users: dict[str, Seen] = {}
        assigned: frozenset[str] | None = None
        if self._settings.app_id:
            await self._reader.app_is_active()
            users.update((await listed("app", lambda: self._reader.everybody_assigned(progress))).rows)
            assigned, self._reader.assigned = frozenset(users), set(users)
        groups: dict[str, SeenGroup] = {}

        async def read(row: GroupRow) -> None:
            members = await listed(f"group {row.id}", lambda: self._reader.members(row))
            counted = _add(users, members.rows, only=assigned)
            groups[row.id] = SeenGroup(row.id, row.name, counted, members.finished.at)
            progress("groups", len(groups), len(rows))

        await side_by_side(rows, read, self._settings.concurrency)
        self._matter = frozenset(groups) | wanted.bound | wanted.ids
        kept.end()
        return Snapshot(self.name, users, groups, tuple(proof), _Since(self._base, kept.noted).written())

    # -- what has changed ---------------------------------------------------------------------------------------------

    async def changes(self, wanted: Wanted, cursor: str) -> Changes:
        since = _Since.read(cursor, self._base, self.name).at
        sent = self._clock.now()
        moment = rfc3339(since - self._settings.overlap)
        people = await self._reader.changed_users(moment)
        now = sent + self._wire.clock_is_off
        rows = await self._reader.changed_groups(moment)
        changed = [row for row in rows if row.name in wanted.names or row.id in wanted.ids | wanted.bound]
        self._matter = frozenset(row.id for row in changed) | wanted.ids | wanted.bound | (self._matter or frozenset())
        users = people.rows
        groups = await self._read_again(changed, users)
        return Changes(self.name, people.finished.at, users, groups, cursor=_Since(self._base, now).written())

    async def _read_again(self, rows: Iterable[GroupRow], users: dict[str, Seen]) -> dict[str, SeenGroup]:
        """Read groups in full; their members that count are added to `users`."""
        read: dict[str, tuple[GroupRow, Listed[Seen]]] = {}

        async def one(row: GroupRow) -> None:
            read[row.id] = row, await self._reader.members(row)

        await side_by_side(rows, one, self._settings.concurrency)
        everybody = {person for _, members in read.values() for person in members.rows}
        counted = await self._reader.assigned_of(everybody) if self._settings.app_id and everybody else None
        return {
            row.id: SeenGroup(row.id, row.name, _add(users, members.rows, only=counted), members.finished.at)
            for row, members in read.values()
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
            await self._reader.app_is_active(anew=True)
        if found.groups:
            self._reader.assigned = None  # a group's assignment to the app may have changed, and with it its members'
        users: dict[str, Seen] = {}
        groups = await self._read_again(await self._reader.rows_of(found.groups), users)
        after = LogCursor(address, tuple(found.known), sent)
        looks = frozenset(found.users)
        return Changes(self.name, sent, users, groups, looks, after.written(), more, unsaid=found.imported)

    async def _log_page(self, address: str, found: Round, *, stored: bool) -> tuple[str, bool]:
        """Read one page; return where the next one is, and whether there is more now."""
        what = f"{self.name}: log"
        answer = await self._reader.get(address, "logs")
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

    # -- one person ---------------------------------------------------------------------------------------------------

    async def look_up(self, external_id: str, groups: Collection[str]) -> Look:
        if not _ID.fullmatch(external_id):
            return Look(Seen(external_id, "", Observation.UNKNOWN, "no id of Okta's", self._clock.now()), None)
        what = f"{self.name}: user"
        answer = await self._reader.get(f"/api/v1/users/{external_id}", "user")
        if says_not_found(answer, what):
            await self._reader.make_sure_of(groups)  # a narrowed role hides people in the same words
            return Look(Seen(external_id, "", Observation.ABSENT, f"404 {NOT_FOUND}", answer.at), frozenset())
        record = whole_json(answer, what)
        if id_of(record, what) != external_id:
            msg = f"{what}: another user was shown than the one asked for"
            raise IncompleteSource(msg)
        seen = seen_of(record, external_id, answer.at)
        if seen.observation is Observation.INACTIVE:
            return Look(seen, None)
        if self._settings.app_id and not await self._reader.is_assigned(external_id):
            why = f"{seen.why}, not assigned to app {self._settings.app_id}"
            return Look(replace(seen, why=why), frozenset())
        return Look(seen, await self._reader.groups_of(external_id, frozenset(groups)))

    async def check(self) -> list[tuple[str, bool, str]]:
        return await check(self._settings, self._wire, self._credential)

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
