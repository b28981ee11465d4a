"""The verbs idsync uses at the gateway, each a few lines over one way of calling.

What a success of a writing call means is little: LiteLLM 1.108.0 echoes key ids as deleted that were never there,
and removes a member by e-mail without removing them (observed). Whoever writes reads back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import structlog

from idsync.clock import new_secret
from idsync.errors import (
    AdminKeyRefused,
    BadAnswer,
    Conflicting,
    GatewayError,
    Missing,
    Rejected,
    Unsupported,
)
from idsync.gateway.answers import TooLong, object_of, rows_of
from idsync.gateway.caller import Caller, GatewaySettings
from idsync.gateway.dialects import ORGANIZATION_ROLES, plain_role
from idsync.gateway.listing import PAGE, read_all
from idsync.gateway.parse import invitation_from, key_from, team_from, text_of, user_from
from idsync.gateway.receipts import recorder
from idsync.gateway.shared import Shared
from idsync.gateway.trial import KeyTrial, try_key
from idsync.model import GatewayKey, GatewayTeam, GatewayUser, Invitation, OrganizationMember

__all__ = ["Gateway", "GatewaySettings", "KeyTrial", "NewKey", "recorder", "try_key"]

MOST_KEYS_A_CALL = 500
"""LiteLLM 1.108.0 took 3.0 s for 500 keys (observed): more would come near the time-out."""

_ORDER = {
    "user_list": {"sort_by": "user_id", "sort_order": "asc"},
    "key_list": {"sort_by": "created_at", "sort_order": "asc"},
}
"""What keeps offset pages from shifting under new rows (columns that LiteLLM 1.108.0 can sort by)."""

_SIZE = {"key_list": "size"}
"""What the rows of a page are called where it is not `page_size`."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NewKey:
    """A key that was made just now. The secret is shown by this answer alone, and by no `repr`."""

    id: str
    secret: str = field(repr=False)


class Gateway(Caller):
    """The gateway's management API."""

    @cached_property
    def _page_sizes(self) -> dict[str, int]:
        """Rows asked for at a time, of the listings whose pages have been too long."""
        return {}

    @cached_property
    def _invitations(self) -> Shared[list[Invitation]]:
        return Shared(self._read_invitations)

    # -- users ------------------------------------------------------------------------------------------------------

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

    async def create_user(
        self,
        *,
        user_id: str,
        email: str | None = None,
        role: str | None = None,
        sso_user_id: str | None = None,
        alias: str | None = None,
    ) -> GatewayUser:
        """Create a user without a key and without an invitation.

        Raises:
            Conflicting: the id or the e-mail is there already.
            BadAnswer: a key was made all the same (it was deleted again), or another user was answered.
            Transient: unknown whether it was created; never repeated here.
        """
        body = {
            "user_id": user_id,
            "user_email": email,
            "user_role": plain_role(role) if role else None,
            "sso_user_id": sso_user_id,
            "user_alias": alias,
            "auto_create_key": False,
            "send_invite_email": False,
        }
        answer = object_of(await self._call("user_new", user_id, body=_given(body)), "user/new")
        await self._refuse_a_key(answer)
        return _same_user(user_from(answer), user_id)

    async def update_user(
        self,
        user: GatewayUser,
        *,
        metadata: Mapping[str, Any] | None = None,
        role: str | None = None,
        email: str | None = None,
    ) -> None:
        """Change a user that was read just now: the update of an unknown id creates that user (observed).

        `metadata` is the whole object: the gateway replaces what it has. What is None stays as it is.
        """
        body = _given({"metadata": metadata, "user_role": plain_role(role) if role else None, "user_email": email})
        if body:
            answer = await self._call("user_update", user.user_id, body={"user_id": user.user_id, **body})
            _same_id(answer, "user_id", user.user_id)

    async def delete_user(self, user_id: str) -> None:
        """Delete a user row, with the keys it owns and its places on rosters; one that is gone is fine.

        For a leaver only when nothing is left: a key that was missed lives again when the fence goes with the row
        (LiteLLM 1.108.0, observed).
        """
        try:
            await self._call("user_delete", user_id, body={"user_ids": [user_id]})
        except Missing:
            return

    async def edit_metadata(
        self, user_id: str, change: Callable[[GatewayUser], Mapping[str, Any] | None], *, sure: bool = False
    ) -> GatewayUser | None:
        """Read a user and write at once what `change` makes of them; return them as they were read.

        The gateway replaces metadata as a whole and has no condition to write under, so what somebody else writes
        between the two calls would be lost: nothing is waited for in between. `change` returns the whole new object,
        or None to write nothing. None is returned for a user the gateway does not have (`sure`: see `get_user`).
        """
        async with self._slots.together():
            user = await self.get_user(user_id, sure=sure)
            wanted = change(user) if user is not None else None
            if user is not None and wanted is not None:
                await self.update_user(user, metadata=wanted)
            return user

    async def set_role(self, user: GatewayUser, role: str) -> None:
        """Give a user that was read just now another role.

        Routero has an endpoint of its own that goes by e-mail (Routero docs, until 23 July 2026); without it, or
        without an e-mail, the role is written to the user.
        """
        role = plain_role(role)
        if user.email and "role_update" in self._operations and "role_update" not in self._absent:
            body = {"user_email": user.email, "user_role": ORGANIZATION_ROLES.get(role, role)}
            try:
                object_of(await self._call("role_update", user.user_id, body=body), "member_permission_update")
            except Unsupported:
                self._absent.add("role_update")
            else:
                return
        await self.update_user(user, role=role)

    async def end_sessions(self, user: GatewayUser) -> None:
        """End the dashboard sessions of a user that was read just now, by a password that nobody knows.

        Listings hide session keys, so nothing can show that they are gone; setting a password deletes them all and
        asks for another one at the next login (LiteLLM 1.108.0, source).

        Raises:
            Rejected, Unsupported: this gateway sets no passwords.
        """
        secret = f"Aa1!{new_secret()}"
        body = {"user_id": user.user_id, "password": secret}
        answer = await self._call("user_update", user.user_id, body=body)
        _same_id(answer, "user_id", user.user_id)

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

    async def delete_invitation(self, invitation_id: str) -> None:
        """Delete an invitation; one that is gone is fine."""
        try:
            await self._call("invitation_delete", invitation_id, body={"invitation_id": invitation_id})
        except Missing:
            return

    # -- organizations ------------------------------------------------------------------------------------------------

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

    async def leave_organization(self, organization_id: str, user_id: str) -> None:
        """End a user's membership; the user, their teams and keys stay (LiteLLM 1.108.0, source).

        The answer is `null` for somebody who was none, and may be empty: read back.
        """
        body = {"organization_id": organization_id, "user_id": user_id}
        try:
            await self._call("organization_leave", user_id, body=body)
        except (Missing, BadAnswer):
            return

    async def join_organization(self, organization_id: str, user_id: str, role: str) -> None:
        """Make a user a member who is none: a second time is a 500, an unknown user is created (LiteLLM, source)."""
        member = {"user_id": user_id, "role": plain_role(role)}
        body = {"organization_id": organization_id, "member": member}
        try:
            await self._call("organization_join", user_id, body=body)
        except (Conflicting, BadAnswer):
            return

    # -- keys -------------------------------------------------------------------------------------------------------

    async def list_keys(
        self, *, user_id: str | None = None, team_id: str | None = None, steady: bool = False
    ) -> list[GatewayKey]:
        """List keys, of one user or team or of all; never one that is not shown to belong to whom was asked for.

        A gateway that ignores the filter, or answers bare ids, must not make somebody else's keys look like theirs. One
        that heeds it and shows a key of nobody's is asked for that key by its id. `steady` notices a key that was skipped
        because another one went (see `read_all`).
        Dashboard session keys are not listed (LiteLLM 1.108.0, observed).
        """
        wanted = _given({"user_id": user_id, "team_id": team_id})
        query = {**wanted, "return_full_object": "true"}
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

    async def key_info(self, key_id: str) -> GatewayKey | None:
        """Read one key; None when the gateway has none of that id, `deleted` when it is in the archive."""
        try:
            answer = object_of(await self._call("key_info", key_id, query={"key": key_id}), "key/info")
        except Missing:
            return None
        if not isinstance(answer.get("info"), dict):
            raise BadAnswer("key/info: the answer has no info")
        return key_from(answer, key_id)

    async def generate_key(self, *, user_id: str, alias: str, duration: str) -> NewKey:
        """Make a key for a user, to be refused by itself after `duration` ("1h"); for drills alone.

        The secret goes to the caller and nowhere else.

        Raises:
            BadAnswer: the answer holds no secret or no id.
            Transient: unknown whether it was made; never repeated here.
        """
        body = {"user_id": user_id, "key_alias": alias, "duration": duration}
        answer = object_of(await self._call("key_generate", user_id, body=body), "key/generate")
        secret = text_of(answer.get("key"))
        key_id = text_of(answer.get("token_id")) or text_of(answer.get("token"))
        if secret is None or key_id is None:
            raise BadAnswer("key/generate: the answer shows no key")
        if secret in key_id:  # ids are stored and shown
            raise BadAnswer("key/generate: the answer has the secret for an id")
        return NewKey(key_id, secret)

    async def block_key(self, key_id: str) -> bool:
        """Block a key on every replica; False when it is gone, Unsupported when the gateway cannot block."""
        return await self._switch("key_block", key_id)

    async def unblock_key(self, key_id: str) -> bool:
        """Unblock a key; False when it is gone."""
        return await self._switch("key_unblock", key_id)

    async def delete_keys(self, key_ids: Sequence[str]) -> None:
        """Delete keys in one call (in calls of 500); those that are gone already are fine.

        Returning proves nothing: the gateway echoes the request as "deleted" (LiteLLM 1.108.0, observed). Read back.
        """
        for start in range(0, len(key_ids), MOST_KEYS_A_CALL):
            some = list(key_ids[start : start + MOST_KEYS_A_CALL])
            try:
                object_of(await self._call("key_delete", ",".join(some), body={"keys": some}), "key/delete")
            except Missing:
                continue

    # -- teams ------------------------------------------------------------------------------------------------------

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

    async def create_team(
        self,
        *,
        team_id: str,
        alias: str,
        max_budget: float | None = None,
        soft_budget: float | None = None,
        budget_duration: str | None = None,
        models: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a team under an id of ours: aliases are not unique at the gateway (LiteLLM 1.108.0, observed).

        Raises:
            Conflicting: the id is there already (the gateway says 400; a read decides).
            Transient: unknown whether it was created; never repeated here.
        """
        body = {
            "team_id": team_id,
            "team_alias": alias,
            "max_budget": max_budget,
            "soft_budget": soft_budget,
            "budget_duration": budget_duration,
            "models": list(models),
            "metadata": metadata,
        }
        try:
            answer = await self._call("team_new", team_id, body=_given(body))
        except Rejected as error:
            if not isinstance(error, Conflicting) and await self.get_team(team_id) is not None:
                raise Conflicting("the gateway has that team already", status=error.status) from None
            raise
        _same_id(answer, "team_id", team_id)

    async def update_team(self, team_id: str, **changes: Any) -> None:
        """Change a team by its id. `alias` is written as team_alias; a None is sent and clears the field."""
        body = {"team_alias" if name == "alias" else name: value for name, value in changes.items()}
        if body:
            answer = await self._call("team_update", team_id, body={"team_id": team_id, **body})
            _same_id(answer, "team_id", team_id)

    async def add_member(self, team_id: str, user_id: str, role: str = "user") -> None:
        """Put a user, read just now, on a team; being there already is fine.

        An unknown user_id is created by this call (LiteLLM 1.108.0, observed): the caller knows that it is not.
        """
        body = {"team_id": team_id, "member": {"user_id": user_id, "role": role}}
        try:
            object_of(await self._call("member_add", user_id, body=body), "team/member_add")
        except Conflicting:
            return

    async def remove_member(self, team_id: str, user_id: str) -> None:
        """Take a user off a team, by id; not being there, or there being no team, is fine.

        The gateway answers 400 for both (LiteLLM 1.108.0, observed), as it may for other things: after a refusal
        the roster is read, and the refusal stands if the user is still on it.
        """
        try:
            answer = await self._call("member_delete", user_id, body={"team_id": team_id, "user_id": user_id})
            object_of(answer, "team/member_delete")
        except Rejected:
            team = await self.get_team(team_id)
            if team is not None and team.may_have_member(user_id):
                raise

    # -- what is this gateway -----------------------------------------------------------------------------------------

    async def probe(self) -> dict[str, Any]:
        """Ask, by reading only, whether the gateway answers, takes our key, and which verbs it has.

        Never raises for what the gateway does: `problem` says it. Verbs are learnt from /openapi.json where served.
        """
        found: dict[str, Any] = {"reachable": False, "admin_key": "unknown", "openapi": False, "problem": None}
        try:
            await self._call("key_list", "", query={"page": 1, "size": 1})
            found |= {"reachable": True, "admin_key": "accepted"}
        except AdminKeyRefused as error:
            found |= {"reachable": True, "admin_key": "refused", "problem": str(error)}
        except GatewayError as error:
            found |= {"reachable": error.status is not None, "problem": str(error)}
        if found["admin_key"] == "accepted":
            found |= await self._read_openapi()
        return found | {"dialect": self._settings.dialect, "verbs": self._verbs.all()}

    async def _read_openapi(self) -> dict[str, Any]:
        """Learn verbs from the gateway's description of itself, and name the paths it does not have."""
        try:
            paths = object_of(object_of(await self._call("openapi", ""), "openapi").get("paths"), "openapi's paths")
        except GatewayError:
            return {"openapi": False}
        missing = []
        for name, operation in self._operations.items():
            served = paths.get(operation.path)
            verbs = {str(verb).upper() for verb in served} if isinstance(served, dict) else set()
            usable = [verb for verb in self._verbs.candidates(name) if verb in verbs]
            if usable:
                self._verbs.learn(name, usable[0])
            elif name != "openapi":
                missing.append(operation.path)
        return {"openapi": True, "missing": sorted(missing)}

    # -- the parts of the above ---------------------------------------------------------------------------------------

    async def _user_by(self, name: str, user_id: str) -> GatewayUser | None:
        try:
            return _same_user(user_from(await self._call(name, user_id, query={"user_id": user_id})), user_id)
        except Missing:
            return None

    async def _user_from_list(self, user_id: str) -> GatewayUser | None:
        users = await self._users({"user_ids": user_id} if "," not in user_id else {}, user_id)
        return next((user for user in users if user.user_id == user_id), None)

    async def _users(self, filters: Mapping[str, str], target: str) -> list[GatewayUser]:
        rows = await self._pages("user_list", filters, target, "users", "total", _user_id)
        return [user_from(row) for row in rows]

    async def _refuse_a_key(self, created: Mapping[str, Any]) -> None:
        """Delete the key that came with a new user, and say that it came."""
        held = text_of(created.get("token_id")) or text_of(created.get("token")) or text_of(created.get("key"))
        if not text_of(created.get("key")) or held is None:
            return
        try:
            await self.delete_keys([held])
        except GatewayError:
            raise BadAnswer("the gateway made a key for a new user, unasked, and it could not be deleted") from None
        raise BadAnswer("the gateway made a key for a new user, unasked; it was deleted")

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

    async def _switch(self, name: str, key_id: str) -> bool:
        try:
            object_of(await self._call(name, key_id, body={"key": key_id}), name)
        except Missing:
            return False
        return True

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


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
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


def _same_user(user: GatewayUser, user_id: str) -> GatewayUser:
    if user.user_id != user_id:
        raise BadAnswer("the gateway answered with another user than asked for")
    return user


def _same_id(answer: Any, field: str, expected: str) -> None:
    """Make sure that a writing call answered for the object it was about."""
    row = object_of(answer, "an update")
    shown = text_of(row.get(field))
    if shown is not None and shown != expected:
        raise BadAnswer("the gateway changed another object than asked for")
