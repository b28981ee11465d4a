"""What is read of the gateway: users, keys, teams, invitations; nothing here changes anything.

A listing is followed to its end and checked; what a filter gave back is compared with what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import structlog

from idsync.errors import BadAnswer, Missing, Rejected, Unsupported
from idsync.gateway.answers import TooLong, object_of, rows_of
from idsync.gateway.caller import Caller
from idsync.gateway.listing import PAGE, read_all
from idsync.gateway.parse import invitation_from, key_from, model_from, team_from, user_from
from idsync.gateway.shared import Shared
from idsync.model import GatewayKey, GatewayTeam, GatewayUser, Invitation, OrganizationMember

_ORDER = {
    "user_list": {"sort_by": "user_id", "sort_order": "asc"},
    "key_list": {"sort_by": "created_at", "sort_order": "asc"},
}
"""What keeps offset pages from shifting under new rows (columns that LiteLLM 1.108.0 can sort by)."""

_SIZE = {"key_list": "size"}
"""What the rows of a page are called where it is not `page_size`."""

log = structlog.get_logger(__name__)


class Reader(Caller):
    """The reading half of the gateway's management API."""

    @cached_property
    def _page_sizes(self) -> dict[str, int]:
        """Rows asked for at a time, of the listings whose pages have been too long."""
        return {}

    @cached_property
    def _invitations(self) -> Shared[list[Invitation]]:
        return Shared(self._read_invitations)

    # -- users --------------------------------------------------------------------------------------------------------

    async def get_user(self, user_id: str, *, sure: bool = False) -> GatewayUser | None:
        """Read one user with role, metadata and team ids; None when the gateway has none of that id.

        `sure`: where one read does not show them, another one has to agree.
        """
        user = await self._read_user(user_id)
        return user if user is not None or not sure else await self._read_user_otherwise(user_id)

    async def _read_user_otherwise(self, user_id: str) -> GatewayUser | None:
        if "user_light" not in self._absent and not any(character.isspace() for character in user_id):
            try:
                return await self._user_by("user_info", user_id)
            except Unsupported:
                pass
        return await self._user_from_list(user_id)

    async def _read_user(self, user_id: str) -> GatewayUser | None:
        """Read one user by the lightest way there is.

        /v2/user/info is the light read (LiteLLM 1.108.0, observed); where it is missing or shows no metadata,
        /user/info is read instead, for good. An id with a space cannot be asked for that way (it arrives as a plus):
        such a user is picked from the listing.
        """
        if any(character.isspace() for character in user_id):
            return await self._user_from_list(user_id)
        if "user_light" not in self._absent:
            try:
                user = await self._user_by("user_light", user_id)
            except Unsupported:
                user = GatewayUser(user_id, None, None, None)
            if user is None or user.metadata is not None:
                return user
        user = await self._user_by("user_info", user_id)
        if user is not None and user.metadata is not None:
            self._absent.add("user_light")
        return user

    async def find_users(self, *, email: str | None = None, sso_user_id: str | None = None) -> list[GatewayUser]:
        """Find users by exactly this e-mail (letter case aside) or exactly this SSO id; give one of the two.

        The gateway's e-mail filter is a substring match (LiteLLM 1.108.0, observed), so its answer is compared again.
        """
        if email is not None and sso_user_id is None:
            users = await self._users({"user_email": email}, email)
            return [user for user in users if (user.email or "").casefold() == email.casefold()]
        if sso_user_id is not None and email is None:
            users = await self._users({"sso_user_ids": sso_user_id}, sso_user_id)
            return [user for user in users if user.sso_user_id == sso_user_id]
        msg = "find_users takes an e-mail or an SSO id"
        raise ValueError(msg)

    async def list_users(self) -> list[GatewayUser]:
        """Read every user, page by page."""
        return await self._users({}, "")

    async def _user_by(self, name: str, user_id: str) -> GatewayUser | None:
        try:
            return same_user(user_from(await self._call(name, user_id, query={"user_id": user_id})), user_id)
        except Missing:
            return None

    async def _user_from_list(self, user_id: str) -> GatewayUser | None:
        users = await self._users({"user_ids": user_id} if "," not in user_id else {}, user_id)
        return next((user for user in users if user.user_id == user_id), None)

    async def _users(self, filters: Mapping[str, str], target: str) -> list[GatewayUser]:
        rows = await self._pages("user_list", filters, target, "users", "total", _user_id)
        return [user_from(row) for row in rows]

    async def pending_invitations(self) -> list[Invitation]:
        """Return every invitation that was not accepted, as of a moment after this call.

        Raises:
            Unsupported: the gateway does not list them.
        """
        return await self._invitations.fresh()

    async def _read_invitations(self) -> list[Invitation]:
        if "invitation_list" not in self._operations:
            raise Unsupported("this dialect does not list invitations")
        rows = rows_of(await self._call("invitation_list", ""), "invitation/list")
        return [one for one in map(invitation_from, rows) if not one.accepted]

    @property
    def organization_id(self) -> str:
        """Return the organization every call is about (X-Organization-Id); whoever is outside of it is 404. "": none."""
        return self._settings.organization_id

    async def organizations_of(self, user_id: str) -> tuple[OrganizationMember, ...] | None:
        """Return a user's places in organizations: in ours, where one is set. None for a user who is not shown.

        /user/info alone shows them (LiteLLM 1.108.0, source).
        """
        if any(character.isspace() for character in user_id):
            user = await self._user_from_list(user_id)
        else:
            user = await self._user_by("user_info", user_id)
        if user is None:
            return None
        ours = self.organization_id
        return tuple(place for place in user.organizations if not ours or place.organization_id == ours)

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def list_keys(
        self,
        *,
        user_id: str | None = None,
        team_id: str | None = None,
        status: str | None = None,
        steady: bool = False,
    ) -> list[GatewayKey]:
        """List keys, of one user or team or of all; never one that is not shown to belong to whom was asked for.

        A gateway that ignores the filter, or answers bare ids, must not make somebody else's keys look like theirs. One
        that heeds it and shows a key of nobody's is asked for that key by its id. `steady` notices a key that was skipped
        because another one went (see `read_all`). `status` "deleted" reads the archive.
        Dashboard session keys are not listed (LiteLLM 1.108.0, observed).
        """
        wanted = given({"user_id": user_id, "team_id": team_id})
        query = {**wanted, **given({"status": status}), "return_full_object": "true"}
        target = user_id or team_id or ""
        rows = await self._pages("key_list", query, target, "keys", "total_count", _key_id, steady=steady)
        if not wanted:
            return [key_from(row) for row in rows]
        ignored = any(_names_another(row, wanted) for row in rows)
        keys = await asyncio.gather(*(self._shown(row, wanted, ignored) for row in rows))
        found = [key for key in keys if key is not None]
        if len(found) < len(rows):
            log.warning("gateway_filter_ignored", listing="key_list", rows=len(rows), matching=len(found))
        return found

    async def keys_called(self, alias: str) -> list[GatewayKey]:
        """Return the keys of exactly this alias: none or one, aliases are unique (LiteLLM 1.108.0, observed)."""
        query = {"key_alias": alias, "return_full_object": "true"}
        rows = await self._pages("key_list", query, alias, "keys", "total_count", _key_id)
        return [key for key in map(key_from, rows) if key.alias == alias and not key.deleted]

    async def key_info(self, key_id: str) -> GatewayKey | None:
        """Read one key; None when the gateway has none of that id, `deleted` when it is in the archive."""
        try:
            answer = object_of(await self._call("key_info", key_id, query={"key": key_id}), "key/info")
        except Missing:
            return None
        if not isinstance(answer.get("info"), dict):
            raise BadAnswer("key/info: the answer has no info")
        return key_from(answer, key_id)

    async def _shown(self, row: Any, wanted: Mapping[str, str], ignored: bool) -> GatewayKey | None:
        """Return the key if it is shown to match the filter; a row that does not say is looked up.

        A row that names nobody is a key of nobody's where the filter was `ignored`; else it says nothing.

        Raises:
            BadAnswer: the look-up of such a row names nobody either.
        """
        key = key_from(row)
        silent = not ignored and any(getattr(key, name) is None for name in wanted)
        if not isinstance(row, dict) or silent or any(name not in row for name in wanted):
            looked_up = await self.key_info(key.id)
            if looked_up is None or looked_up.deleted:
                return None
            key = looked_up
        if silent and isinstance(row, dict) and any(getattr(key, name) is None for name in wanted):
            raise BadAnswer("key/list: a key that was asked for by its owner is shown as nobody's")
        return key if all(getattr(key, name) == value for name, value in wanted.items()) else None

    # -- teams --------------------------------------------------------------------------------------------------------

    async def list_teams(self) -> list[GatewayTeam]:
        """Read every team with its roster."""
        if "team_pages" not in self._absent:
            try:
                rows = await self._pages("team_pages", {}, "", "teams", "total", _team_id)
            except Unsupported:
                self._absent.add("team_pages")
            else:
                return [team_from(row) for row in rows]
        return await self._bare_teams({}, "")

    async def get_team(self, team_id: str) -> GatewayTeam | None:
        """Read one team with its roster; None when the gateway has none of that id."""
        try:
            team = team_from(await self._call("team_info", team_id, query={"team_id": team_id}))
        except Missing:
            return None
        if team.team_id != team_id:
            raise BadAnswer("team/info: the answer is another team")
        return team

    async def teams_of(self, user_id: str) -> list[GatewayTeam]:
        """Read every team whose roster has the user, whatever the user's own row says of their teams."""
        return [team for team in await self._teams_near(user_id) if team.has_member(user_id)]

    async def _teams_near(self, user_id: str) -> list[GatewayTeam]:
        """Read a set of teams that surely holds those of the user, the smallest that can be asked for.

        /team/list?user_id filters by roster, /v2/team/list?user_id by the team ids in the user's own row (LiteLLM
        source); the two have been seen to differ (issue 14057), so the second is never asked for one user.
        """
        if "team_list" not in self._absent:
            try:
                return await self._bare_teams({"user_id": user_id}, user_id)
            except Unsupported:
                self._absent.add("team_list")
            except (Missing, BadAnswer):  # the filter's user has no row; or the filter is ignored and all is too much
                pass
        return await self.list_teams()

    async def _bare_teams(self, filters: Mapping[str, str], target: str) -> list[GatewayTeam]:
        return [team_from(row) for row in rows_of(await self._call("team_list", target, query=filters), "team/list")]

    # -- models -----------------------------------------------------------------------------------------------------

    async def list_models(self) -> frozenset[str]:
        """Read the names that a team's `models` may hold; wildcards and access groups too, where they are told.

        Raises:
            Unsupported: the gateway lists none, or not to us.
            GatewayError: it could not be asked.
        """
        query = {"return_wildcard_routes": "true", "include_model_access_groups": "true"}
        for name in ("models", "models_plain"):
            try:
                answer = await self._call(name, "", query=query)
            except Unsupported:
                continue
            listed = frozenset(map(model_from, rows_of(object_of(answer, "models").get("data"), "models")))
            if listed:
                return listed
        raise Unsupported("the gateway lists no models")

    # -- listings -----------------------------------------------------------------------------------------------------

    async def _pages(
        self,
        name: str,
        query: Mapping[str, Any],
        target: str,
        rows: str,
        total: str,
        name_of: Callable[[Any], str],
        *,
        steady: bool = False,
    ) -> list[Any]:
        """Read a listing to its end; of what is too long for one answer, smaller pages from then on."""

        async def fetch(number: int) -> Any:
            order = {} if f"{name} order" in self._absent else _ORDER.get(name, {})
            size = {_SIZE.get(name, "page_size"): self._page_sizes.get(name, PAGE)}
            return await self._call(name, target, query={**query, **size, **order, "page": number})

        while True:
            try:
                return await read_all(fetch, rows=rows, total=total, name_of=name_of, steady=steady)
            except TooLong:
                size = self._page_sizes.get(name, PAGE)
                if size == 1:
                    raise
                self._page_sizes[name] = size // 2
                log.info("gateway_pages_halved", listing=name, size=size // 2)
            except Rejected:
                if name not in _ORDER or f"{name} order" in self._absent:
                    raise
                # it may not know the column; an unordered listing is checked all the same
                self._absent.add(f"{name} order")


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in fields.items() if value is not None}


def _key_id(row: Any) -> str:
    return key_from(row).id


def _user_id(row: Any) -> str:
    return user_from(row).user_id


def _team_id(row: Any) -> str:
    return team_from(row).team_id


def _names_another(row: Any, wanted: Mapping[str, str]) -> bool:
    """Tell whether a row is of somebody else than was asked for: the filter was ignored."""
    key = key_from(row)
    return any(getattr(key, name) not in (None, value) for name, value in wanted.items())


def same_user(user: GatewayUser, user_id: str) -> GatewayUser:
    if user.user_id != user_id:
        raise BadAnswer("the gateway answered with another user than asked for")
    return user
