"""The verbs idsync uses at the gateway, each a few lines over one way of calling: here those that change something.

What a success of a writing call means is little: LiteLLM 1.108.0 echoes key ids as deleted that were never there,
and removes a member by e-mail without removing them (observed). Whoever writes reads back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idsync.clock import new_secret
from idsync.errors import (
    BadAnswer,
    Conflicting,
    GatewayError,
    Missing,
    Rejected,
    UnaskedKey,
    Unsupported,
)
from idsync.gateway.answers import object_of
from idsync.gateway.caller import GatewaySettings
from idsync.gateway.dialects import ORGANIZATION_ADMIN, ORGANIZATION_ROLES, plain_role
from idsync.gateway.parse import text_of, user_from
from idsync.gateway.probing import Probing
from idsync.gateway.reader import given, same_user
from idsync.gateway.receipts import recorder
from idsync.gateway.spending import Spending
from idsync.gateway.trial import KeyTrial, try_key
from idsync.model import GatewayUser

__all__ = ["Gateway", "GatewaySettings", "KeyTrial", "NewKey", "recorder", "try_key"]

MOST_KEYS_A_CALL = 500
"""LiteLLM 1.108.0 took 3.0 s for 500 keys (observed): more would come near the time-out."""


@dataclass(frozen=True)
class NewKey:
    """A key that was made just now. The secret is shown by this answer alone, and by no `repr`."""

    id: str
    secret: str = field(repr=False)
    expires: str | None = None


class Gateway(Probing, Spending):
    """The gateway's management API, whole: what only reads is the `Reader`'s, money is `Spending`'s, a doctor's `Probing`."""

    # -- users --------------------------------------------------------------------------------------------------------

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
            UnaskedKey: the user is there, and a key was made all the same (it was told to end).
            BadAnswer: another user was answered.
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
        answer = object_of(await self._call("user_new", user_id, body=given(body)), "user/new")
        await self._refuse_a_key(answer)
        return same_user(user_from(answer), user_id)

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
        body = given({"metadata": metadata, "user_role": plain_role(role) if role else None, "user_email": email})
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

        Routero has an endpoint of its own that goes by e-mail, and shows it with two roles (Routero docs, until 23 July
        2026). Without it, without an e-mail, for any other role and for an organization's admin, whom it might make less
        than that, the role is written to the user.
        """
        role = plain_role(role)
        leads = any(place.role == ORGANIZATION_ADMIN for place in user.organizations)
        if leads or role not in ORGANIZATION_ROLES or not await self._update_permission(user, role):
            await self.update_user(user, role=role)

    async def _update_permission(self, user: GatewayUser, role: str) -> bool:
        """Set somebody's role the way Routero documents; False where that cannot be."""
        if not user.email or "role_update" not in self._operations or "role_update" in self._absent:
            return False
        body = {"user_email": user.email, "user_role": ORGANIZATION_ROLES.get(role, role)}
        try:
            object_of(await self._call("role_update", user.user_id, body=body), "member_permission_update")
        except Unsupported:
            self._absent.add("role_update")
            return False
        return True

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

    async def delete_invitation(self, invitation_id: str) -> None:
        """Delete an invitation; one that is gone is fine."""
        try:
            await self._call("invitation_delete", invitation_id, body={"invitation_id": invitation_id})
        except Missing:
            return

    async def _refuse_a_key(self, created: Mapping[str, Any]) -> None:
        """Delete the key that came with a new user, and say that it came."""
        secret = text_of(created.get("key"))
        if not secret:
            return
        held = text_of(created.get("token_id")) or text_of(created.get("token"))
        if held is not None and secret in held:
            held = None  # ids are stored and shown
        try:
            await self.delete_keys([held or secret])
        except GatewayError:
            raise UnaskedKey(held, deleted=False) from None
        raise UnaskedKey(held, deleted=True)

    # -- organizations ------------------------------------------------------------------------------------------------

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

    async def set_organization_role(self, organization_id: str, user: GatewayUser, role: str) -> None:
        """Give a member, read just now, another role in an organization; the account's own role stays.

        Routero's own endpoint comes first for an org admin: of lesser roles it is not known to leave the account alone.

        Raises:
            Missing: they are no member.
            Unsupported: the gateway has no such endpoint, or no licence for it.
        """
        role = plain_role(role)
        if role == ORGANIZATION_ADMIN and await self._update_permission(user, role):
            return
        body = {"organization_id": organization_id, "user_id": user.user_id, "role": role}
        object_of(await self._call("organization_role", user.user_id, body=body), "organization/member_update")

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def generate_key(
        self,
        *,
        alias: str,
        duration: str | None,
        user_id: str | None = None,
        team_id: str | None = None,
        models: Sequence[str] = (),
        max_budget: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> NewKey:
        """Make a key for a user, or for a team and nobody; it is refused by itself after `duration` ("1h").

        The secret goes to the caller and nowhere else.

        Raises:
            BadAnswer: the answer holds no secret or no id.
            Rejected: it was not made: the alias is taken, a model or team unknown.
            Transient: unknown whether it was made; never repeated here.
        """
        body = {
            "key_alias": alias,
            "duration": duration,
            "user_id": user_id,
            "team_id": team_id,
            "models": list(models) or None,
            "max_budget": max_budget,
            "metadata": metadata,
        }
        target = user_id or team_id or alias
        answer = object_of(await self._call("key_generate", target, body=given(body)), "key/generate")
        secret = text_of(answer.get("key"))
        key_id = text_of(answer.get("token_id")) or text_of(answer.get("token"))
        if secret is None or key_id is None:
            raise BadAnswer("key/generate: the answer shows no key")
        if secret in key_id:  # ids are stored and shown
            raise BadAnswer("key/generate: the answer has the secret for an id")
        return NewKey(key_id, secret, text_of(answer.get("expires")))

    async def update_key(self, key_id: str, **changes: Any) -> None:
        """Change a key by its id. `alias` is written as key_alias.

        Raises:
            Unsupported: this gateway changes no keys.
            Rejected: it refuses: the alias is taken, the key is gone.
        """
        body = {"key_alias" if name == "alias" else name: value for name, value in changes.items()}
        if body:
            object_of(await self._call("key_update", key_id, body={"key": key_id, **body}), "key/update")

    async def block_key(self, key_id: str) -> bool:
        """Block a key on every replica; False when it is gone, Unsupported when the gateway cannot block."""
        return await self._switch("key_block", key_id)

    async def unblock_key(self, key_id: str) -> bool:
        """Unblock a key; False when it is gone."""
        return await self._switch("key_unblock", key_id)

    async def _switch(self, name: str, key_id: str) -> bool:
        try:
            object_of(await self._call(name, key_id, body={"key": key_id}), name)
        except Missing:
            return False
        return True

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

    # -- teams --------------------------------------------------------------------------------------------------------

    async def create_team(
        self,
        *,
        team_id: str,
        alias: str,
        models: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Create a team under an id of ours: aliases are not unique at the gateway (LiteLLM 1.108.0, observed).

        `settings` are budgets and limits by the names of `GatewayTeam`; what is None is not sent.

        Raises:
            Conflicting: the id is there already (the gateway says 400; a read decides).
            Transient: unknown whether it was created; never repeated here.
        """
        body = {
            "team_id": team_id,
            "team_alias": alias,
            "models": list(models),
            **settings,
            "metadata": metadata,
        }
        try:
            answer = await self._call("team_new", team_id, body=given(body))
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

    async def edit_team_metadata(
        self, team_id: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    ) -> None:
        """Read a team and write at once what `change` makes of its metadata; None writes nothing.

        As `edit_metadata`: the gateway replaces the object as a whole.

        Raises:
            Missing: the gateway has no such team.
            BadAnswer: it does not show the team's metadata, so there is nothing to merge with.
        """
        async with self._slots.together():
            team = await self.get_team(team_id)
            if team is None:
                raise Missing(f"the gateway has no team {team_id}")
            if not team.shows_metadata:
                raise BadAnswer(f"the gateway does not show the metadata of team {team_id}; nothing was written")
            wanted = change(team.metadata)
            if wanted is not None:
                await self.update_team(team_id, metadata=dict(wanted))

    async def block_team(self, team_id: str) -> None:
        """Refuse every key of a team, once the gateway's cache time is over (LiteLLM 1.108.0, observed).

        Raises:
            Unsupported: the gateway cannot block teams.
        """
        object_of(await self._call("team_block", team_id, body={"team_id": team_id}), "team/block")

    async def delete_team(self, team_id: str) -> None:
        """Delete a team with its roster and keys; one that is gone is fine.

        Its keys must be gone before: they live on in the gateway's cache otherwise (LiteLLM issue 34217).
        """
        try:
            await self._call("team_delete", team_id, body={"team_ids": [team_id]})
        except Missing:
            return

    async def add_member(self, team_id: str, user_id: str, role: str = "user") -> None:
        """Put a user, read just now, on a team; being there already is fine.

        An unknown user_id is created by this call (LiteLLM 1.108.0, observed): the caller knows that it is not.
        """
        body = {"team_id": team_id, "member": {"user_id": user_id, "role": role}}
        try:
            object_of(await self._call("member_add", user_id, body=body), "team/member_add")
        except Conflicting:
            return

    async def set_member_role(self, team_id: str, user_id: str, role: str) -> None:
        """Make a member of a team its admin, or a plain user again.

        Raises:
            Rejected: not a member; or an admin where that wants a licence (400, LiteLLM 1.108.0, source).
        """
        body = {"team_id": team_id, "user_id": user_id, "role": role}
        object_of(await self._call("member_update", user_id, body=body), "team/member_update")

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


def _same_id(answer: Any, field: str, expected: str) -> None:
    """Make sure that a writing call answered for the object it was about."""
    row = object_of(answer, "an update")
    shown = text_of(row.get(field))
    if shown is not None and shown != expected:
        raise BadAnswer("the gateway changed another object than asked for")
