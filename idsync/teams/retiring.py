"""Retiring a team that the configuration does not name any more: shown, blocked, its keys ended, then deleted.

It is written down before anything is touched, and every step may be done again: a run that was broken off is continued
by giving the command once more. Keys are ended one by one first: what a gateway deletes with the team may live on in
its cache (LiteLLM issue 34217).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from idsync.clock import Clock
from idsync.engine.desk import every
from idsync.errors import GatewayError, IdsyncError, NotFound, StillAlive, Unsupported, UsageError
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey, GatewayTeam, GatewayUser, Origin
from idsync.plan import WantedTeam
from idsync.policy import protection
from idsync.standing import Cause, People, note, shield_of
from idsync.store import facts, ledger, people
from idsync.store.db import Db, Store
from idsync.teams.ending import block_all, end_keys, still_there
from idsync.teams.setting import APPLIED, known_teams

T = TypeVar("T")
RETIRING = "retiring:"
"""Facts of that prefix: by team_id, what was begun and is not proven yet."""


def begun(db: Db) -> dict[str, str]:
    """Return the teams whose retirement was begun and is not done: their names by id."""
    return {team_id: str(noted["team"]) for team_id, (noted, _) in facts.under(db, RETIRING).items()}


@dataclass(frozen=True)
class Retirement:
    """`teams` is what the configuration names; `standing` says who is protected, and what people keep without it."""

    store: Store
    gateway: Gateway
    clock: Clock
    standing: People
    teams: Sequence[WantedTeam]

    async def show(self, name: str) -> dict[str, Any]:
        """Return what would end with a team: keys, members, spend.

        Raises:
            NotFound, UsageError: there is no such team, there are several, the configuration names it, or it has the
                key that idsync calls with.
            GatewayError: the gateway could not be read.
        """
        team, begun = await self._find(name)
        return await self._view(team, begun)

    async def run(
        self, name: str, *, by: str, reason: str, override: bool = False, received_at: float | None = None
    ) -> dict[str, Any]:
        """Block a team and its keys, end the keys, delete the team, and look whether all of it is gone.

        Raises:
            NotFound, UsageError: as `show`; or somebody protected is in it, and `override` is not set.
            StillAlive: a key, or the team, is still there.
            IdsyncError: the gateway did not do all of it; the same command continues.
        """
        team, begun = await self._find(name)
        view = await self._view(team, begun)
        if view["protected"] and not override:
            who = "; ".join(view["protected"])
            msg = f"{who}; take them off the team first, or add --override-protection and a --reason"
            raise UsageError(msg)
        origin = Origin("cli", by, received_at or self.clock.now())
        await self._write(lambda db: self._begin(db, view, origin, reason))
        try:
            await self._end(view["team_id"], [key["key_id"] for key in view["keys"]] + list(begun.get("keys", ())))
        except StillAlive as error:
            raise StillAlive(f"team {name} is not retired yet: {error}; the same command tries again") from error
        except GatewayError as error:
            msg = f"team {name} is not retired yet: {error}; the same command continues where it stopped"
            raise IdsyncError(msg) from error
        return await self._write(lambda db: self._done(db, view, origin, reason))

    # -- which team ---------------------------------------------------------------------------------------------------

    async def _find(self, name: str) -> tuple[GatewayTeam | None, dict[str, Any]]:
        """Find a team by its alias or id; and what an earlier run has noted of it. None: it is deleted already."""
        db = self.store.reader()
        known = known_teams(db)
        shown = await self.gateway.list_teams()
        found = [team for team in shown if team.team_id in (known.get(name), name)]
        found = found[:1] or [team for team in shown if team.alias == name]
        if len(found) > 1:
            ids = ", ".join(sorted(team.team_id for team in found))
            msg = f"the gateway has {len(found)} teams called {name}; give the id of one: {ids}"
            raise UsageError(msg)
        if found:
            self._refuse_configured(found[0], known)
            return found[0], facts.get(db, RETIRING + found[0].team_id) or {}
        for team_id, (begun, _) in facts.under(db, RETIRING).items():
            if name in (team_id, begun["team"]):
                return None, {**begun, "team_id": team_id}
        msg = f"the gateway has no team {name!r}; `idsync teams list` shows them"
        raise NotFound(msg)

    def _refuse_configured(self, team: GatewayTeam, known: dict[str, str]) -> None:
        for wanted in self.teams:
            ours = known.get(wanted.alias)
            if team.team_id == ours or (
                ours is None and (team.team_id == wanted.team_id or team.alias == wanted.alias)
            ):
                msg = (
                    f"the configuration names team {wanted.alias}; remove its [[teams]] entry and reload the daemon"
                    " (what that alone would take from people is a hold), then retire it"
                )
                raise UsageError(msg)

    async def _keys(self, team: GatewayTeam | None, begun: dict[str, Any]) -> list[GatewayKey]:
        team_id = team.team_id if team is not None else begun["team_id"]
        return sorted(await self.gateway.list_keys(team_id=team_id, steady=True), key=lambda key: key.id)

    # -- showing ------------------------------------------------------------------------------------------------------

    async def _view(self, team: GatewayTeam | None, begun: dict[str, Any]) -> dict[str, Any]:
        keys = await self._keys(team, begun)
        await self._refuse_our_own(team, keys)
        protected = await self._protected(team, keys)
        if team is None:
            team = GatewayTeam(begun["team_id"], begun["team"])
        emails = {member.user_id: member.email for member in team.members}
        return {
            "team": team.alias or team.team_id,
            "team_id": team.team_id,
            "blocked": team.blocked,
            "spend": team.spend,
            "max_budget": team.max_budget,
            "budget_duration": team.budget_duration,
            "members": [
                {"user_id": member.user_id, "email": member.email, "role": member.role} for member in team.members
            ],
            "keys": [
                {
                    "key_id": key.id,
                    "alias": key.alias,
                    "name": key.name,
                    "owner": emails.get(key.user_id) or key.user_id or key.service_account,
                    "last_used": key.last_used_at,
                    "spend": key.spend,
                    "blocked": key.blocked,
                }
                for key in keys
            ],
            "without_another_team": self._only_here(team.team_id),
            "protected": protected,
            "begun": bool(begun),
        }

    async def _refuse_our_own(self, team: GatewayTeam | None, keys: Sequence[GatewayKey]) -> None:
        """Without the key that idsync calls with nobody could be revoked any more."""
        if team is not None and await self.gateway.has_our_key(team.team_id, keys):
            msg = (
                f"team {team.alias or team.team_id} has the key that idsync itself calls the gateway with; make one that"
                " belongs to no team, write it into routero.admin_key_file, then retire the team"
            )
            raise UsageError(msg)

    def _only_here(self, team_id: str) -> int:
        """Count the people who have no other team."""
        db = self.store.reader()
        ours = [alias for alias, known in known_teams(db).items() if known == team_id]
        persons = {grant.person_id for alias in ours for grant in people.grants_of_team(db, alias)}
        return sum(all(grant.team in ours for grant in people.grants(db, person)) for person in persons)

    async def _protected(self, team: GatewayTeam | None, keys: Sequence[GatewayKey]) -> list[str]:
        """Say who of the team, and of the owners of its keys, is protected; rosters do not show every e-mail."""
        members = {member.user_id: member.email for member in team.members} if team is not None else {}
        accounts = sorted({account for account in (*members, *(key.user_id for key in keys)) if account})
        users = dict(zip(accounts, await every(map(self.gateway.get_user, accounts)), strict=True))
        found = [self._shielded(None, None, email) for account, email in members.items() if account is None]
        found += [self._shielded(account, users[account], members.get(account)) for account in accounts]
        return sorted(filter(None, found))

    def _shielded(self, account: str | None, user: GatewayUser | None, email: str | None) -> str | None:
        db, now, rules = self.store.reader(), self.clock.now(), self.standing.rules
        person = people.person_of_account(db, account) if account is not None else None
        shield = protection([account, email, user.email if user is not None else None], rules, now)
        if shield is None and person is not None:
            shield = shield_of(db, person, rules, now)
        who = email or (user.email if user is not None else None) or account
        return None if shield is None else f"{who} is protected ({shield}), and on the team or with a key of it"

    # -- ending -------------------------------------------------------------------------------------------------------

    async def _end(self, team_id: str, key_ids: Sequence[str]) -> None:
        async def theirs() -> list[GatewayKey]:
            return await self.gateway.list_keys(team_id=team_id, steady=True)

        if await self.gateway.get_team(team_id) is not None:
            with suppress(Unsupported):  # its keys are blocked all the same
                await self.gateway.block_team(team_id)
        await block_all(self.gateway, await theirs())
        ended = await end_keys(self.gateway, theirs)
        await self.gateway.delete_team(team_id)
        if await self.gateway.get_team(team_id) is not None:
            raise StillAlive("the gateway still shows the team")
        ended += await end_keys(self.gateway, theirs)  # made between the last look and the deletion
        left = await still_there(self.gateway, sorted({*key_ids, *ended}))
        if left:
            raise StillAlive(f"the gateway still has {left} of its keys")

    def _begin(self, db: Db, view: dict[str, Any], origin: Origin, reason: str) -> None:
        earlier = facts.get(db, RETIRING + view["team_id"]) or {}
        keys = sorted({*(key["key_id"] for key in view["keys"]), *earlier.get("keys", ())})
        noted = {"team": view["team"], "keys": keys, "members": earlier.get("members", len(view["members"]))}
        facts.put(db, RETIRING + view["team_id"], noted, self.clock.now())
        before = {name: view[name] for name in ("team_id", "spend", "max_budget", "budget_duration", "members")}
        detail = {"reason": reason, "keys": keys, "continued": bool(earlier), "before": before}
        note(db, self.clock, origin, "team.retiring", view["team"], detail)

    def _done(self, db: Db, view: dict[str, Any], origin: Origin, reason: str) -> dict[str, Any]:
        """Forget the team: nobody is given it any more, and what waited to take it from people is done.

        Whoever had no other team is held as a whole: that nobody leaves because a team is retired.
        """
        team_id = view["team_id"]
        noted = facts.get(db, RETIRING + team_id)
        concerned: set[str] = set()
        for alias in [alias for alias, known in known_teams(db).items() if known == team_id]:
            for grant in people.grants_of_team(db, alias):
                people.drop_grant(db, grant.person_id, alias)
                ledger.drop_items(db, grant.person_id, alias)
                concerned.add(grant.person_id)
            facts.drop(db, f"team:{alias}")
            facts.drop(db, APPLIED + alias)
        facts.drop(db, RETIRING + team_id)
        what = f"team {view['team']} was retired"
        self.standing.look_again(db, concerned, Cause(origin, what, configuration=True))
        detail = {"team_id": team_id, "reason": reason, "keys": noted["keys"], "members": noted["members"]}
        note(db, self.clock, origin, "team.retired", view["team"], detail)
        counts = {"keys": len(noted["keys"]), "members": noted["members"]}
        return {"team": view["team"], "team_id": team_id, **counts, "held": view["without_another_team"]}

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self.store.submit(work, urgent=True))
