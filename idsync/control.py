"""What people may ask of idsync: revoke, restore, link, holds, bindings, tokens. The CLI and the socket call these.

Each function writes in one transaction, leaves an audit entry naming who asked, and returns plain data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from idsync.clock import Clock, new_id, new_secret, rfc3339
from idsync.config import Config
from idsync.errors import HeldByGuard, NotFound, UsageError
from idsync.intake import Intake
from idsync.intake.polls import Polls
from idsync.model import DepartureState, Evidence, Group, Lane, Origin, Person
from idsync.policy import MANUAL, Rule, gives, protection
from idsync.standing import Cause, note
from idsync.store import called, directory, facts, jobs, journal, ledger, people, replicas, tokens
from idsync.store.db import Db, Store
from idsync.store.facts import FROZEN
from idsync.store.people import Ban, Binding

RULES_OF = "configuration:rules:"
"""The facts that say by which rules each replica of a shared store judges people."""
MIXED = "configuration:mixed"
"""The fact that they did not all go by the same."""
LIVE_TOKENS = 2
"""Tokens a source may have alive at a time: the current one and the next."""


@dataclass(frozen=True)
class Control:
    """The commands that write. `config` is that of the process that holds the store."""

    intake: Intake
    config: Config
    clock: Clock

    @property
    def _polls(self) -> Polls:
        return Polls(self.intake, self.clock)

    # -- people ---------------------------------------------------------------------------------------------------

    def revoke(self, db: Db, user: str, *, reason: str, override: bool, by: str, received_at: float) -> dict[str, Any]:
        """Write a ban and open the departure; sources cannot bring the person back until `restore`.

        `user` is an e-mail, a userName or a gateway user_id; the caller has resolved accounts no source knows.

        Raises:
            NotFound: nobody is called that.
            UsageError: the name is ambiguous, or the person is protected and `override` is not set.
        """
        person = find_person(db, user)
        if person is None:
            msg = f"nobody is called {user!r} here; give an e-mail, a userName or a gateway user_id"
            raise NotFound(msg)
        return self._ban(db, person, reason=reason, override=override, by=by, received_at=received_at)

    def revoke_account(
        self,
        db: Db,
        account_id: str,
        label: str,
        *,
        email: str | None,
        reason: str,
        override: bool,
        by: str,
        received_at: float,
    ) -> dict[str, Any]:
        """Revoke a gateway account that no source knows.

        Raises:
            UsageError: one of its names is protected and `override` is not set.
        """
        shield = protection([account_id, label, email], self.intake.rules, self.clock.now())
        if shield is not None and not override:
            msg = f"{label} is protected ({shield}); add --override-protection and a --reason to revoke anyway"
            raise UsageError(msg)
        person = people.person_of_account(db, account_id)
        if person is None:
            made = people.new_person(db, label, self.clock.now(), account_id=account_id)
            for name in {label, email or label}:
                called.note(db, made, "", called.by_hand(name), self.clock.now())
            person = people.person(db, made)
        if person is None:
            raise NotFound
        return self._ban(db, person, reason=reason, override=override, by=by, received_at=received_at)

    def _ban(
        self, db: Db, person: Person, *, reason: str, override: bool, by: str, received_at: float
    ) -> dict[str, Any]:
        shield = self.intake.people.protected(db, person)
        if shield is not None and not override:
            msg = f"{person.label} is protected ({shield}); add --override-protection and a --reason to revoke anyway"
            raise UsageError(msg)
        origin = Origin("cli", by, received_at)
        if people.live_ban(db, person.id) is None:
            ban = Ban(new_id(), person.id, person.label, reason, override, self.clock.now(), by)
            people.add_ban(db, ban)
            note(db, self.clock, origin, "ban.made", person.label, {"reason": reason, "override": override})
        self.intake.people.look_again(db, [person.id], Cause(origin, f"revoked by {by}: {reason}"))
        if ledger.open_departure(db, person.id) is not None:
            self.intake.people.open_job(db, person.id, Lane.REVOKE)
        return {"person": person.id, "user": person.label, "gateway_user_id": person.account_id}

    def restore(self, db: Db, user: str, *, reason: str, by: str) -> dict[str, Any]:
        """Lift the bans of a person; what their sources say counts again.

        Raises:
            NotFound: nobody of that name, or no ban.
        """
        person = find_person(db, user)
        if person is None or people.live_ban(db, person.id) is None:
            msg = f"there is no ban on {user!r}"
            raise NotFound(msg)
        origin = Origin("cli", by, self.clock.now())
        people.lift_bans(db, person.id, reason, self.clock.now())
        people.resolve_conflicts(db, "ban", person.id, self.clock.now())
        note(db, self.clock, origin, "ban.lifted", person.label, {"reason": reason})
        self.intake.people.look_again(db, [person.id], Cause(origin, f"restored by {by}: {reason}"))
        departure = ledger.open_departure(db, person.id)
        return {"user": person.label, "departed_still": departure is not None}

    def link(self, db: Db, user: str, account_id: str, *, by: str) -> dict[str, Any]:
        """Say which gateway account is a person's; a second one becomes a further account.

        Raises:
            NotFound: nobody of that name.
            UsageError: the account belongs to somebody else.
        """
        person = self._person(db, user)
        owner = people.person_of_account(db, account_id)
        if owner is not None and owner.id != person.id:
            msg = f"gateway account {account_id} is linked to {owner.label}; unlink it there first"
            raise UsageError(msg)
        if owner is None and person.account_id is None:
            people.link_account(db, person.id, account_id)
        elif owner is None:
            people.add_further_account(db, person.id, account_id, self.clock.now())
        people.resolve_conflicts(db, "account", person.id, self.clock.now())
        facts.put(db, f"unlinked:{person.id}:{account_id}", False, self.clock.now())
        facts.put(db, f"unseen:{account_id}", True, self.clock.now())  # until the gateway shows it
        origin = Origin("cli", by, self.clock.now())
        note(db, self.clock, origin, "account.linked", person.label, {"account": account_id})
        self._reopen(db, person)
        return {"user": person.label, "gateway_user_id": account_id}

    def unlink(self, db: Db, user: str, account_id: str, *, by: str) -> dict[str, Any]:
        """Forget a link, and say what idsync has done to the account that stays: it calls no gateway.

        `fence` is the departure whose fence is still on the account, None when there is none; `blocked_keys` were
        blocked by idsync and still are. Whoever works for the person right now stops and looks again.

        Raises:
            NotFound: nobody of that name, or no such link.
        """
        person = self._person(db, user)
        blocked = [row for row in people.blocked_keys(db, person.id) if row.account_id == account_id]
        if not people.drop_account(db, person.id, account_id):
            msg = f"{person.label} is not linked to gateway account {account_id}"
            raise NotFound(msg)
        facts.put(db, f"unlinked:{person.id}:{account_id}", True, self.clock.now())
        departure = ledger.open_departure(db, person.id)
        fence = departure.id if departure is not None and departure.fenced_at is not None else None
        kept = [{"id": row.key_id, "alias": row.alias, "name": row.name} for row in blocked]
        origin = Origin("cli", by, self.clock.now())
        detail = {"account": account_id, "fence": fence, "blocked_keys": [row.key_id for row in blocked]}
        note(db, self.clock, origin, "account.unlinked", person.label, detail)
        if jobs.get(db, person.id) is not None:
            self._reopen(db, person)
        return {"user": person.label, "gateway_user_id": account_id, "fence": fence, "blocked_keys": kept}

    def _reopen(self, db: Db, person: Person) -> None:
        lane = Lane.REVOKE if ledger.open_departure(db, person.id) is not None else Lane.GRANT
        self.intake.people.open_job(db, person.id, lane)

    def _person(self, db: Db, user: str) -> Person:
        person = find_person(db, user)
        if person is None:
            msg = f"nobody is called {user!r} here; give an e-mail, a userName or a gateway user_id"
            raise NotFound(msg)
        return person

    # -- holds ----------------------------------------------------------------------------------------------------

    def approve(self, db: Db, hold_id: str, checksum: str, *, by: str) -> dict[str, Any]:
        """Let go what a hold kept back, exactly as the person who approves has seen it.

        Raises:
            NotFound: no such open hold.
            HeldByGuard: the hold has changed since; look again.
        """
        hold, held = self.as_shown(db, hold_id, checksum)
        now = self.clock.now()
        ledger.decide_hold(db, hold.id, "approved", by, now)
        origin = Origin("cli", by, now)
        for person_id in sorted({item.person_id for item in held}):
            self._let_go(db, person_id, hold.id, origin)
            self._polls.approve(db, hold.id, person_id, origin)
        note(
            db,
            self.clock,
            origin,
            "hold.approved",
            hold.kind,
            {"hold": hold.id, "items": len(held), "checksum": checksum},
        )
        return {"id": hold.id, "released": len(held)}

    def as_shown(self, db: Db, hold_id: str, checksum: str) -> tuple[ledger.Hold, list[ledger.HoldItem]]:
        """Return an open hold and what it keeps back, as long as that is what the checksum was shown with.

        Raises:
            NotFound: no such open hold.
            HeldByGuard: the hold has changed since; look again.
        """
        hold = self._open_hold(db, hold_id)
        held = ledger.items(db, hold.id)
        if checksum != ledger.checksum(held):
            msg = f"hold {hold.id} has changed since checksum {checksum} was shown; run `idsync holds show {hold.id}`"
            raise HeldByGuard(msg)
        return hold, held

    def _let_go(self, db: Db, person_id: str, hold_id: str, origin: Origin) -> None:
        now = self.clock.now()
        person = people.person(db, person_id)
        if person is None or (self.intake.people.protected(db, person) and people.live_ban(db, person_id) is None):
            return  # protected since the hold was opened
        departure = ledger.open_departure(db, person_id)
        if departure is not None and departure.hold_id == hold_id:
            state = DepartureState.ACCEPTED if departure.state is DepartureState.HELD else departure.state
            ledger.put_departure(db, replace(departure, delete_at=now, state=state, problem=None))
        for grant in people.grants(db, person_id):
            if grant.hold_id == hold_id:
                evidence = grant.evidence or Evidence.CONFIGURATION
                gone = replace(grant, state="leaving", evidence=evidence, lost_at=grant.lost_at or now, delete_at=now)
                people.put_grant(db, gone)
        self.intake.people.look_again(db, [person_id], Cause(origin, "a hold was approved"))
        self.intake.people.open_job(db, person_id, Lane.REVOKE)

    def reject(self, db: Db, hold_id: str, *, by: str) -> dict[str, Any]:
        """Keep what a hold kept back: deletions stay off, what only the configuration took stays given.

        Raises:
            NotFound: no such open hold.
        """
        hold = self._open_hold(db, hold_id)
        ledger.decide_hold(db, hold.id, "rejected", by, self.clock.now())
        origin = Origin("cli", by, self.clock.now())
        note(db, self.clock, origin, "hold.rejected", hold.kind, {"hold": hold.id})
        return {"id": hold.id, "kept": len(ledger.items(db, hold.id))}

    def _open_hold(self, db: Db, hold_id: str) -> ledger.Hold:
        hold = ledger.hold(db, hold_id)
        if hold is None or hold.state != "open":
            msg = f"there is no open hold {hold_id!r}; `idsync holds list` shows them"
            raise NotFound(msg)
        return hold

    # -- freezing -------------------------------------------------------------------------------------------------

    def freeze(self, db: Db, *, reason: str, by: str) -> dict[str, Any]:
        """Stop polled departures and every grant; `revoke` and pushed leavers go on.

        Raises:
            UsageError: it is frozen already.
        """
        if facts.get(db, FROZEN):
            raise UsageError("frozen already; `idsync status` says by whom, `idsync thaw --reason TEXT` ends it")
        now = self.clock.now()
        facts.put(db, FROZEN, {"reason": reason, "by": by, "at": now}, now)
        note(db, self.clock, Origin("cli", by, now), "frozen", "polled departures and grants", {"reason": reason})
        return {"frozen": True}

    def thaw(self, db: Db, *, reason: str, by: str) -> dict[str, Any]:
        """Let polled departures and grants go on.

        Raises:
            UsageError: nothing is frozen.
        """
        if not facts.get(db, FROZEN):
            raise UsageError("nothing is frozen")
        now = self.clock.now()
        facts.drop(db, FROZEN)
        note(db, self.clock, Origin("cli", by, now), "thawed", "polled departures and grants", {"reason": reason})
        if self.intake.people.on_jobs is not None:
            db.after_commit(self.intake.people.on_jobs)
        return {"frozen": False}

    # -- bindings -------------------------------------------------------------------------------------------------

    def bind(self, db: Db, target: str, group_id: str, *, by: str) -> dict[str, Any]:
        """Bind a team or a role to a group by its immutable id; its other bindings stay.

        Raises:
            NotFound: no such team or role in the configuration, or no such group.
        """
        rule = self._rule_of(target)
        kind = rule.kind
        group = self._group(db, group_id)
        if group is None or group.deleted_at is not None:
            msg = f"no source shows a group of id {group_id!r}; `idsync groups list` shows them"
            raise NotFound(msg)
        now = self.clock.now()
        people.add_binding(db, Binding(kind, rule.target, MANUAL, group.source, group.id), now)
        for conflict in ("rebind", "group_name"):
            people.resolve_conflicts(db, conflict, f"{target}:{group.id}", now)
        people.resolve_conflicts(db, "group_name", f"{group.source}:{group.external_id}", now)
        origin = Origin("cli", by, now)
        detail = {"group": group.id, "name": group.display_name}
        note(db, self.clock, origin, "binding.made", gives(kind, rule.target), detail)
        bound = f"{target} bound to {group.display_name}"
        self.intake.people.look_again(
            db, directory.persons_under(db, group.id), Cause(origin, bound, configuration=True)
        )
        what = gives(kind, rule.target)
        return {"kind": kind, "target": target, "what": what, "group_id": group.id, "group": group.display_name}

    def unbind(self, db: Db, target: str, group_id: str, *, by: str) -> dict[str, Any]:
        """Undo a binding; whoever would lose access by it alone is held until somebody approves.

        Raises:
            NotFound: no such binding.
        """
        rule = self._rule_of(target)
        kind = rule.kind
        known = self._group(db, group_id)
        group_id = known.id if known is not None else group_id
        if not people.drop_binding(db, kind, rule.target, group_id):
            msg = f"{target} is not bound to group {group_id}"
            raise NotFound(msg)
        origin = Origin("cli", by, self.clock.now())
        note(db, self.clock, origin, "binding.undone", gives(kind, rule.target), {"group": group_id})
        what = f"{target} unbound from {group_id}"
        self.intake.people.look_again(
            db, directory.persons_under(db, group_id), Cause(origin, what, configuration=True)
        )
        return {"kind": kind, "target": target, "what": gives(kind, rule.target), "group_id": group_id}

    @staticmethod
    def _group(db: Db, group_id: str) -> Group | None:
        """Find a group by our id, or by the id its directory has for it where one source alone has such a group."""
        found = directory.group_any(db, group_id)
        theirs = [group for group in directory.live_groups(db) if group.external_id == group_id]
        return found or (theirs[0] if len(theirs) == 1 else None)

    def _rule_of(self, target: str) -> Rule:
        named = {rule.name: rule for rule in self.intake.rules.rules}
        if target not in named:
            msg = f"the configuration has no team or role {target!r} with groups"
            raise NotFound(msg)
        return named[target]

    # -- tokens ---------------------------------------------------------------------------------------------------

    def new_token(
        self, db: Db, name: str, *, kind: str, scope: str, by: str, expires: float | None = None
    ) -> dict[str, Any]:
        """Make a bearer token that ends after `expires` seconds. It is returned once; the store keeps its SHA-256.

        Raises:
            NotFound: the configuration has no such source.
            UsageError: the source has two live tokens already.
        """
        pushing = sorted(source.name for source in self.config.scim.sources)
        if kind == "source" and name not in pushing:
            known = ", ".join(pushing) or "none"
            msg = f"the configuration has no SCIM source {name!r} (it has: {known})"
            raise NotFound(msg)
        now = self.clock.now()
        alive = [token for token in tokens.all_tokens(db) if (token.kind, token.name) == (kind, name)]
        alive = [token for token in alive if token.state(now) == "live"]
        if len(alive) >= LIVE_TOKENS:
            msg = f"{name} has {LIVE_TOKENS} live tokens; revoke one first: idsync token revoke {alive[0].id}"
            raise UsageError(msg)
        secret = f"idsync_{new_secret()}"
        token_id = new_id()[:8]
        digest = hashlib.sha256(secret.encode()).hexdigest()
        ends = None if expires is None else now + expires
        tokens.put_token(db, id=token_id, kind=kind, name=name, scope=scope, digest=digest, at=now, expires_at=ends)
        told = None if ends is None else rfc3339(ends)
        detail = {"id": token_id, "kind": kind, "scope": scope, "expires": told}
        note(db, self.clock, Origin("cli", by, now), "token.made", name, detail)
        return {"id": token_id, "token": secret, "expires": told}

    def revoke_token(self, db: Db, token_id: str, *, by: str) -> dict[str, Any]:
        """End a token at once.

        Raises:
            NotFound: no live token of that id.
        """
        now = self.clock.now()
        if not tokens.revoke_token(db, token_id, now):
            msg = f"there is no live token {token_id!r}; `idsync token list` shows them"
            raise NotFound(msg)
        note(db, self.clock, Origin("cli", by, now), "token.revoked", token_id, {})
        return {"id": token_id}

    def look_at_protected(self, db: Db) -> None:
        """Ask policy again about everybody a protection names: one that has expired shields nobody any more."""
        cause = Cause(Origin("config", "sweep", self.clock.now()), "a protection has expired")
        for entry in self.intake.rules.protected:
            named = {user.person_id for user in directory.find_users_any(db, entry.match)}
            linked = people.person_of_account(db, entry.match)
            self.intake.people.look_again(db, named | ({linked.id} if linked else set()), cause)

    # -- the configuration ------------------------------------------------------------------------------------------

    def adopt_configuration(self, db: Db) -> bool:
        """Bind groups a changed configuration names, and look at everybody again; takings become a hold.

        Returns whether the configuration differs from the one the store was last used with.
        """
        fingerprint = self._fingerprint()
        now = self.clock.now()
        known = facts.get(db, "configuration")
        if known == fingerprint:
            return False
        for group in directory.live_groups(db):
            self.intake.bindings.bind_by_name(db, group)
        facts.put(db, "configuration", fingerprint, now)
        self._look_at_everybody(db)
        if known is not None:
            journal.append(
                db,
                at=now,
                actor="idsync",
                action="configuration.changed",
                subject="config",
                detail={"is": fingerprint, "was": known},
            )
        return known is not None

    def _look_at_everybody(self, db: Db) -> None:
        cause = Cause(Origin("config", "start", self.clock.now()), "the configuration was changed", configuration=True)
        self.intake.people.look_again(db, [person.id for person in people.all_persons(db)], cause)

    def settle_configuration(self, db: Db, replica: str) -> None:
        """Note by which rules this replica judges; once all go by the same again, ask anew about everybody.

        While a configuration is rolled out, one that still goes by the old rules judges people by them.
        """
        now, mine = self.clock.now(), self._fingerprint()
        there = {one.id for one in replicas.present(db, replicas.time_of(db, now)) if one.role != replicas.COMMAND}
        others = {name: told for name, (told, _) in facts.under(db, RULES_OF).items() if name != replica}
        for gone in others.keys() - there:
            facts.drop(db, RULES_OF + gone)
        facts.put(db, RULES_OF + replica, mine, now)
        if any(told != mine for name, told in others.items() if name in there):
            facts.put(db, MIXED, True, now)
        elif facts.get(db, MIXED):
            self._look_at_everybody(db)
            facts.drop(db, MIXED)

    def say_rules(self, store: Store) -> None:
        """Note by which rules this replica judges, if a pass has forgotten it while it gave no sign of life.

        Raises:
            StoreError: the store cannot be used.
        """
        if facts.get(store.reader(), RULES_OF + store.name) is None:
            store.write(lambda db: self.settle_configuration(db, store.name))

    def _fingerprint(self) -> str:
        rules = self.intake.rules
        directories = sorted((source, rules.idp_of[source]) for source in rules.sources)
        text = repr((directories, rules.rules, rules.departed, rules.protected, rules.default_role))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_person(db: Db, user: str) -> Person | None:
    """Find a person by userName, e-mail, gateway user_id or our own id.

    Raises:
        UsageError: several persons are called that.
    """
    by_id = people.person(db, user) or people.person_of_account(db, user)
    if by_id is not None:
        return by_id
    users = directory.find_users_any(db, user)
    live = [found for found in users if found.deleted_at is None]
    ids = {found.person_id for found in live or users}
    ids |= {person.id for person in people.persons_called(db, user)} if not ids else set()
    if len(ids) > 1:
        msg = f"{len(ids)} people are called {user!r}; use the gateway user_id or one of: {', '.join(sorted(ids))}"
        raise UsageError(msg)
    return people.person(db, ids.pop()) if ids else None
