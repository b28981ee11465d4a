"""A pushed edit of the directory, what it means for people, their jobs and the audit entry, in one transaction.

Every function runs inside the store's write transaction; whoever called may answer 2xx
once that transaction is on disk, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from idsync.bindings import Bindings
from idsync.clock import Clock, new_id
from idsync.errors import NameTaken
from idsync.model import DRILL, Group, GroupFacts, Observation, Origin, User, UserFacts, fold
from idsync.policy import Rules
from idsync.standing import Cause, People, note
from idsync.store import directory, facts, people, polled, shift
from idsync.store.db import Db

Meant = dict[str, directory.Member | None]
"""Whom each value of a list of members means; None when that is nobody, or not one."""
MAPPED_GROUP_FLOOR = 10
"""A mapped group of this many members or more that is emptied or deleted in one request is held."""


class Intake:
    """Applies edits. Holds no state but the rules, which are those of its `people`."""

    def __init__(self, rules: Rules, clock: Clock, *, on_jobs: Callable[[], None] | None = None) -> None:
        self.people = People(rules, clock, on_jobs=on_jobs)
        self.bindings = Bindings(self.people, clock)
        self._clock = clock

    @property
    def rules(self) -> Rules:
        return self.people.rules

    def _now(self) -> float:
        """Return the time in whole milliseconds, as `meta` shows it and filters compare it, and none of them too early.

        What is said within the millisecond in which a poll asked, and after it, is the newer word.
        """
        return math.ceil(self._clock.now() * 1000) / 1000

    # -- users --------------------------------------------------------------------------------------------------

    def create_user(self, db: Db, facts: UserFacts, origin: Origin) -> User:
        """Add a user record and link it to its person.

        Raises:
            NameTaken: the source has a live user of that userName (RFC 7644 §3.3, `uniqueness`).
        """
        now = self._now()
        self._refuse_user_name(db, origin.source, facts.user_name, None)
        person_id = self.person_for(db, origin.source, facts, now)
        self.newest_word(db, origin.source, [person_id], now)
        user = User(
            id=new_id(),
            source=origin.source,
            external_id=facts.external_id,
            user_name=facts.user_name,
            active=facts.active,
            email=facts.email,
            display_name=facts.display_name,
            doc=facts.doc,
            created_at=now,
            updated_at=now,
            version=1,
            person_id=person_id,
            observation=_observation(facts.active),
            observed_at=now,
        )
        directory.put_user(db, user)
        directory.put_emails(db, user.id, user.doc)
        waited = directory.take_pending(db, origin.source, user.id, _names(user), now)
        for group_id in waited:
            directory.add_member(db, group_id, user.id, "User", now)
        directory.touch_groups(db, waited, now)
        self._audit(db, origin, "user.created", user.user_name, {"id": user.id, "active": user.active})
        self.people.look_again(db, [person_id], Cause(origin, f"{origin.source} created {user.user_name}"))
        return user

    def replace_user(self, db: Db, user: User, facts: UserFacts, origin: Origin) -> User:
        """Give a user record new facts; what changes nothing keeps the version.

        Raises:
            NameTaken: another live user of the source has that userName.
        """
        now = self._now()
        if _facts_of(user) == facts:
            self._observe_again(db, user, origin, now)
            return user
        if fold(facts.user_name) != fold(user.user_name):
            self._refuse_user_name(db, user.source, facts.user_name, user.id)
        self.newest_word(db, user.source, [user.person_id], now)
        changed = replace(
            user,
            user_name=facts.user_name,
            external_id=facts.external_id,
            active=facts.active,
            email=facts.email,
            display_name=facts.display_name,
            doc=facts.doc,
            updated_at=now,
            version=user.version + 1,
            person_id=self._person_after(db, user, facts, now),
            observation=_observation(facts.active),
            observed_at=now,
        )
        directory.put_user(db, changed, before=user)
        if changed.doc.get("emails") != user.doc.get("emails"):
            directory.put_emails(db, changed.id, changed.doc)
        if changed.person_id != user.person_id:  # whoever takes a record over does not inherit its groups
            directory.touch_groups(db, directory.drop_memberships_of(db, user.id), now)
        self._audit(db, origin, "user.changed", changed.user_name, {"id": user.id, "changed": _changed(user, changed)})
        what = f"{origin.source} set active={str(changed.active).lower()} for {changed.user_name}"
        self.people.look_again(db, {user.person_id, changed.person_id}, Cause(origin, what))
        return changed

    def delete_user(self, db: Db, user: User, origin: Origin) -> None:
        """Turn a user into a tombstone that SCIM cannot see, and end its memberships."""
        now = self._now()
        self.newest_word(db, user.source, [user.person_id], now)
        directory.touch_groups(db, directory.drop_memberships_of(db, user.id), now)
        gone = replace(
            user,
            active=False,
            updated_at=now,
            version=user.version + 1,
            observation=Observation.ABSENT,
            observed_at=now,
            deleted_at=now,
        )
        directory.put_user(db, gone, before=user)
        directory.put_emails(db, gone.id, {})
        self._audit(db, origin, "user.deleted", user.user_name, {"id": user.id})
        self.people.look_again(db, [user.person_id], Cause(origin, f"{origin.source} deleted {user.user_name}"))

    def _observe_again(self, db: Db, user: User, origin: Origin, now: float) -> None:
        """Note that a source still says the same; among several records of a person the newest one decides."""
        self.newest_word(db, user.source, [user.person_id], now)
        directory.put_user(db, replace(user, observed_at=now), before=user)
        if len(directory.users_of_person_any(db, user.person_id)) > 1:
            cause = Cause(origin, f"{origin.source} repeated {user.user_name}")
            self.people.look_again(db, [user.person_id], cause)

    def newest_word(self, db: Db, source: str, persons: Iterable[str], now: float) -> None:
        """Let what a source says now be its directory's newest word on these people, whatever clocks have told before.

        Commits are in the order in which the words came; the wall clock may have been ahead, in this process or before.
        """
        if self.rules.share(source):
            for person_id in persons:
                shift.outdate(db, person_id, now)

    def _refuse_user_name(self, db: Db, source: str, user_name: str, own_id: str | None) -> None:
        taken = directory.user_by_name(db, source, user_name)
        if taken is not None and taken.id != own_id:
            msg = f"userName {user_name!r} is in use"
            raise NameTaken(msg)

    def person_for(self, db: Db, source: str, facts: UserFacts, now: float) -> str:
        """Find the person of a new record: by immutable id within the directory, else by trusted e-mail across."""
        if facts.external_id:
            every = directory.users_by_external_any(db, self._sources_beside(source), facts.external_id)
            known = [user for user in every if user.source != source or user.deleted_at is not None]
            if len(known) < len(every):
                self._two_of_one_id(db, source, facts, now)
            elif known:
                people.name_again(db, known[0].person_id, facts.user_name)
                return known[0].person_id
        known_elsewhere = self._person_by_email(db, source, facts, now)
        return known_elsewhere or self._new_person(db, source, facts, now)

    def _new_person(self, db: Db, source: str, facts: UserFacts, now: float) -> str:
        """Make a person; one with the name of somebody who is banned is banned as well, until a person lifts that.

        Whether they are the same human, nobody can tell: a source that was told to forget them sends them anew, with
        another id or none. They are not that person either, whose account and fence stay as they are.
        """
        made = people.new_person(db, facts.user_name, now)
        trusted = self.rules.trust_email
        address = (facts.email or facts.user_name) if source in trusted else None
        ban = people.ban_by_name(
            db, (facts.user_name, self._sources_beside(source)), (address, trusted) if address else None
        )
        if ban is not None:
            reason = f"has a name of {ban.label}, who is banned: {ban.reason}"
            people.add_ban(
                db, replace(ban, id=new_id(), person_id=made, label=facts.user_name, reason=reason, created_at=now)
            )
            what = f"{source} made {facts.user_name} anew, a name of {ban.label}, who is banned; banned as well"
            people.open_conflict(db, "ban", made, what, f"idsync restore {facts.user_name} --reason TEXT", now)
            note(db, self._clock, Origin(source, "idsync", now), "ban.made", facts.user_name, {"reason": reason})
        return made

    def _two_of_one_id(self, db: Db, source: str, facts: UserFacts, now: float) -> None:
        """An id that two live users of one source share is no id: nobody is linked by it."""
        people.open_conflict(
            db,
            "external_id",
            facts.user_name,
            f"{source} gave {facts.user_name} the externalId of another live user; taken as two people",
            "map externalId to an immutable, unique attribute (for Entra: objectId)",
            now,
        )

    def _person_by_email(self, db: Db, source: str, facts: UserFacts, now: float) -> str | None:
        if source not in self.rules.trust_email or not facts.email:
            return None
        idp = self.rules.idp_of.get(source)
        others = {
            user.person_id
            for user in directory.live_users_by_email(db, facts.email)
            if user.active and user.source in self.rules.trust_email and self.rules.idp_of.get(user.source) != idp
        }
        if len(others) > 1:
            people.open_conflict(
                db,
                "person",
                facts.user_name,
                f"several people of other directories have the e-mail of {facts.user_name}",
                "idsync link USER GATEWAY_USER_ID, once you know which one it is",
                now,
            )
        return others.pop() if len(others) == 1 else None

    def _person_after(self, db: Db, user: User, facts: UserFacts, now: float) -> str:
        """Decide whether a record with another external id is still the same human.

        An IdP matches by userName and takes over the record it finds. When that record had already left, whoever
        takes it over is somebody else, and must not inherit a leaver's account. A record in use keeps its person
        (the mapping of externalId was changed), and says so.
        """
        if not user.external_id or not facts.external_id or user.external_id == facts.external_id:
            return user.person_id
        if user.active:
            people.open_conflict(
                db,
                "external_id",
                user.user_name,
                f"{user.source} changed externalId of {user.user_name} while active; taken as the same person",
                f"if it is somebody else: idsync revoke {user.user_name}",
                now,
            )
            return user.person_id
        return self.person_for(db, user.source, facts, now)

    def _sources_beside(self, source: str) -> list[str]:
        """Return every source of the same directory, this one first."""
        idp = self.rules.idp_of.get(source, source)
        return [source, *sorted(name for name, other in self.rules.idp_of.items() if other == idp and name != source)]

    # -- groups -------------------------------------------------------------------------------------------------

    def create_group(self, db: Db, facts: GroupFacts, members: Sequence[str], origin: Origin) -> Group:
        """Add a group, bind it to what the configuration names after it, and give it its members.

        Raises:
            NameTaken: the source has a live group of that displayName (Entra matches groups by it).
        """
        now = self._now()
        self._refuse_display_name(db, origin.source, facts.display_name, None)
        group = Group(
            id=new_id(),
            source=origin.source,
            external_id=facts.external_id,
            display_name=facts.display_name,
            doc=facts.doc,
            created_at=now,
            updated_at=now,
            version=1,
        )
        directory.put_group(db, group)
        outer = directory.take_pending(db, origin.source, group.id, _names(group), now)
        for waited in outer:
            directory.add_member(db, waited, group.id, "Group", now)
        directory.touch_groups(db, outer, now)
        self.bindings.bind_by_name(db, group)
        self._audit(db, origin, "group.created", group.display_name, {"id": group.id})
        _, touched = self._add(db, group, self._meant(db, group, members), now)
        self.people.look_again(db, touched, Cause(origin, f"{origin.source} created group {group.display_name}"))
        return group

    def replace_group(
        self, db: Db, group: Group, facts: GroupFacts, members: Sequence[str] | None, origin: Origin
    ) -> Group:
        """Give a group new facts and, unless `members` is None, exactly these members.

        Raises:
            NameTaken: another live group of the source has that displayName.
        """
        if members is None:
            return self.change_members(db, group, (), (), origin, facts=facts)
        have = {row.member_id for row in directory.members(db, group.id)}
        directory.clear_pending(db, group.id)
        fresh = self._meant(db, group, [value for value in members if value not in have])
        return self._change(db, group, fresh, sorted(have.difference(members)), origin, facts)

    def change_members(
        self,
        db: Db,
        group: Group,
        add: Sequence[str],
        remove: Sequence[str],
        origin: Origin,
        *,
        facts: GroupFacts | None = None,
    ) -> Group:
        """Add and remove members, whatever is there already; whoever is in both stays.

        A member is named by its id, its externalId, or its userName or displayName; what nobody is called waits 24 h
        for its user.

        Raises:
            NameTaken: `facts` renames the group to a name that is in use.
        """
        return self._change(db, group, self._meant(db, group, add), remove, origin, facts)

    def _change(
        self, db: Db, group: Group, add: Meant, remove: Sequence[str], origin: Origin, facts: GroupFacts | None
    ) -> Group:
        """Do so; nobody is removed who is also added."""
        now = self._now()
        renamed, winners = self._rename(db, group, facts, origin, now)
        removed, losers = self._remove(db, group, remove, _ids(add), now)
        added, more = self._add(db, group, add, now)
        winners |= more
        if not removed and not added:
            cause = Cause(origin, f"{origin.source} renamed group {renamed.display_name}")
            self.people.look_again(db, winners, cause)
            return renamed
        updated = replace(renamed, updated_at=now, version=group.version + 1)
        directory.put_group(db, updated)
        detail = {"id": group.id, "added": added, "removed": removed}
        self._audit(db, origin, "group.members", updated.display_name, detail)
        emptied = len(losers) >= MAPPED_GROUP_FLOOR and not directory.persons_under(db, group.id)
        mapped = emptied and self._is_mapped(db, group)
        mass = (
            f"mapped group {group.display_name} was emptied in one request ({len(losers)} people)" if mapped else None
        )
        what = f"{origin.source} changed the members of group {updated.display_name}"
        self.people.look_again(db, losers | winners, Cause(origin, what, mass))
        return updated

    def delete_group(self, db: Db, group: Group, origin: Origin) -> None:
        """Turn a group into a tombstone; its binding stays, so that a new group of its name is not taken for it."""
        now = self._now()
        touched = directory.persons_under(db, group.id)
        mapped = len(touched) >= MAPPED_GROUP_FLOOR and self._is_mapped(db, group)
        directory.touch_groups(db, directory.drop_memberships_of(db, group.id), now)
        directory.drop_members(db, group.id)
        directory.put_group(db, replace(group, updated_at=now, version=group.version + 1, deleted_at=now))
        self._audit(db, origin, "group.deleted", group.display_name, {"id": group.id, "people": len(touched)})
        mass = f"mapped group {group.display_name} was deleted ({len(touched)} people)" if mapped else None
        self.people.look_again(db, touched, Cause(origin, f"{origin.source} deleted group {group.display_name}", mass))
        self.bindings.group_gone(db, group)

    def _refuse_display_name(self, db: Db, source: str, display_name: str, own_id: str | None) -> None:
        taken = directory.group_by_name(db, source, display_name)
        if taken is not None and taken.id != own_id:
            msg = f"displayName {display_name!r} is in use"
            raise NameTaken(msg)

    def _rename(
        self, db: Db, group: Group, facts: GroupFacts | None, origin: Origin, now: float
    ) -> tuple[Group, set[str]]:
        """Give a group new facts; return it, and the persons a binding that its new name made reaches."""
        if facts is None or (facts.display_name, facts.external_id, facts.doc) == (
            group.display_name,
            group.external_id,
            group.doc,
        ):
            return group, set()
        if fold(facts.display_name) != fold(group.display_name):
            self._refuse_display_name(db, group.source, facts.display_name, group.id)
        renamed = replace(
            group,
            display_name=facts.display_name,
            external_id=facts.external_id,
            doc=facts.doc,
            updated_at=now,
            version=group.version + 1,
        )
        directory.put_group(db, renamed)
        if facts.display_name == group.display_name:
            self._audit(db, origin, "group.changed", renamed.display_name, {"id": group.id})
            return renamed, set()
        detail = {"id": group.id, "from": group.display_name}
        self._audit(db, origin, "group.renamed", renamed.display_name, detail)
        made = self.bindings.bind_by_name(db, renamed)
        return renamed, set(directory.persons_under(db, group.id)) if made else set()

    def _meant(self, db: Db, group: Group, values: Sequence[str]) -> Meant:
        """Return whom these values of members mean, each once."""
        return {value: directory.find_member(db, group.source, group.id, value) for value in dict.fromkeys(values)}

    def _add(self, db: Db, group: Group, members: Meant, now: float) -> tuple[int, set[str]]:
        """Add members; return how many rows that made and which persons it reaches."""
        rows, touched = 0, set[str]()
        self._newest_word_on(db, group, [member for member in members.values() if member is not None], now)
        for value, member in members.items():
            if member is None:
                directory.add_pending(db, group.source, group.id, value, now)
                continue
            if member.id != value:
                directory.remove_pending(db, group.id, value)
            if directory.add_member(db, group.id, member.id, member.type, now):
                rows += 1
                if self.rules.share(group.source):
                    polled.forget_ended(db, group.id, member.id)
                touched |= self._reached(db, member)
        return rows, touched

    def _remove(
        self, db: Db, group: Group, values: Sequence[str], kept: frozenset[str], now: float
    ) -> tuple[int, set[str]]:
        """Remove members, `kept` aside; return how many rows that ended and which persons it reaches."""
        rows, touched = 0, set[str]()
        leaving = [self._leaving(db, group, value) for value in values]
        self._newest_word_on(db, group, [member for member in leaving if member.id not in kept], now)
        for member in leaving:
            if member.id not in kept and directory.remove_member(db, group.id, member.id):
                rows += 1
                if self.rules.share(group.source):
                    polled.note_ended(db, group.id, member.id, now)
                touched |= self._reached(db, member)
        return rows, touched

    def _leaving(self, db: Db, group: Group, value: str) -> directory.Member:
        """Return the member that a value of a removal means; nobody waits any more to become it."""
        directory.remove_pending(db, group.id, value)
        named = directory.find_member(db, group.source, group.id, value)
        return named or directory.Member(value, "", None)

    def _newest_word_on(self, db: Db, group: Group, members: Iterable[directory.Member], now: float) -> None:
        """Let one request be the newest word on all its members, before any of it is written down."""
        if self.rules.share(group.source):
            for member in members:
                self.newest_word(db, group.source, self._reached(db, member), now)

    def _reached(self, db: Db, member: directory.Member) -> set[str]:
        return {member.person_id} if member.person_id else set(directory.persons_under(db, member.id))

    def _is_mapped(self, db: Db, group: Group) -> bool:
        """Tell whether a group, or one it is nested in, is bound to something."""
        outer = {group.id, *directory.groups_of(db, group.id)}
        return any(people.bindings_of_group(db, group_id) for group_id in outer)

    def _audit(self, db: Db, origin: Origin, action: str, subject: str, detail: dict[str, Any]) -> None:
        now = self._now()
        if origin.source != DRILL:
            facts.put(db, f"source_success:{origin.source}", now, now)
        note(db, self._clock, origin, action, subject, detail)


def _observation(active: bool) -> Observation:
    return Observation.PRESENT if active else Observation.INACTIVE


def _facts_of(user: User) -> UserFacts:
    return UserFacts(user.user_name, user.external_id, user.active, user.email, user.display_name, user.doc)


def _names(made: User | Group) -> list[str]:
    """Return what a push may have called a user or group before it was here."""
    name = made.user_name if isinstance(made, User) else made.display_name
    return [one for one in dict.fromkeys((made.id, made.external_id, name, fold(name))) if one]


def _ids(members: Meant) -> frozenset[str]:
    return frozenset(member.id for member in members.values() if member is not None)


def _changed(before: User, after: User) -> list[str]:
    """Return the names of the attributes that changed, never their values."""
    keys = {key for key in {*before.doc, *after.doc} if before.doc.get(key) != after.doc.get(key)}
    if before.active != after.active:
        keys.add("active")
    if before.external_id != after.external_id:
        keys.add("externalId")
    return sorted(keys)
