"""What a polled source says becomes rows here: users and memberships it shows, and losses that were looked up by id.

A gain is written down as it is listed. A loss is written down only here, from a `Loss` that a look by id has confirmed
and the guard has let pass, or that a person has approved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from idsync.clock import Clock, new_id
from idsync.intake.edits import Intake
from idsync.model import Group, Observation, Origin, User, UserFacts, fold
from idsync.snapshot import Seen, SeenGroup
from idsync.standing import Cause, note
from idsync.store import directory, ledger, people, polled
from idsync.store.db import Db
from idsync.store.polled import HeldLoss
from idsync.words import count

DENIALS = frozenset({Observation.INACTIVE, Observation.SUSPENDED, Observation.ABSENT})
"""What ends access when a source says it of somebody."""


@dataclass(frozen=True)
class Loss:
    """What a look by id has shown of one user: how they stand there, and the groups (external ids) they are not in."""

    user: Seen
    ended: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Return what makes this loss another one: how they stand, and what they are not in. Not when it was seen."""
        return "|".join([self.user.observation.value, *self.ended])

    @property
    def why(self) -> str:
        return (
            self.user.why
            if self.user.observation in DENIALS
            else f"not in {count(len(self.ended), 'mapped group')} any more"
        )

    def as_json(self) -> dict[str, Any]:
        return {"user": asdict(self.user), "ended": list(self.ended)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        user = kept["user"] | {"observation": Observation(kept["user"]["observation"])}
        return cls(Seen(**user), tuple(kept["ended"]))


@dataclass(frozen=True)
class Effect:
    """What a loss takes from somebody: all access, or these teams; nothing where they had nothing."""

    person_id: str
    label: str
    departs: bool
    teams: frozenset[str]


class Polls:
    """Writes down what polled sources say, in the caller's transaction."""

    def __init__(self, intake: Intake, clock: Clock) -> None:
        self._intake = intake
        self._people = intake.people
        self._clock = clock

    # -- gains ----------------------------------------------------------------------------------------------------

    def take_in(self, db: Db, source: str, users: Sequence[Seen], origin: Origin) -> None:
        """Write down users who are new, were renamed, or are back; nobody loses anything by it."""
        known = polled.known_users(db, source, [user.external_id for user in users])
        touched: set[str] = set()
        for user in users:
            before = known.get(user.external_id)
            if before is not None:
                self._intake.newest_word(db, source, [before.person_id], self._clock.now())
            record = directory.user(db, source, before.id) if before is not None else None
            made = self._put(db, source, user, record, _gained(user, record), origin)
            if record is None or made.observation is not record.observation:
                touched.add(made.person_id)
            polled.forget_absent(db, source, user.external_id)
        self._people.look_again(db, touched, Cause(origin, f"{source} lists them"))

    def take_in_group(self, db: Db, source: str, group: SeenGroup, joins: Collection[str], origin: Origin) -> None:
        """Write down a group as listed, with those who joined it; members that are missing stay until looked up."""
        made, is_bound = self._put_group(db, source, group, origin)
        members = polled.known_users(db, source, sorted(joins))
        touched = set(directory.persons_under(db, made.id)) if is_bound else set()
        for member in members.values():
            over = polled.ended(db, member.id).get(made.id, 0.0)
            if over < group.at and directory.add_member(db, made.id, member.id, "User", group.at):
                polled.forget_ended(db, made.id, member.id)
                touched.add(member.person_id)
        polled.listed(db, made.id, group.at)
        if self._intake.rules.share(source):
            touched.update(polled.said_otherwise(db, made.id, group.at))
        if members:
            self._note(db, origin, "group.members", group.display_name, {"id": made.id, "added": len(members)})
        self._people.look_again(db, touched, Cause(origin, f"{source} lists them in {group.display_name}"))

    # -- losses ---------------------------------------------------------------------------------------------------

    def lose(self, db: Db, source: str, loss: Loss, origin: Origin) -> Effect:
        """Write down a loss, and return what it takes."""
        seen = loss.user
        record = self._record(db, source, seen.external_id)
        if record is None:
            record = self._put(db, source, seen, None, seen.observation, origin)
        self._intake.newest_word(db, source, [record.person_id], self._clock.now())
        record = directory.user(db, source, record.id) or record
        person = people.person(db, record.person_id)
        had = {grant.team for grant in people.grants(db, record.person_id) if grant.state == "granted"}
        departed = ledger.open_departure(db, record.person_id) is not None
        if seen.observation is not Observation.UNKNOWN:
            record = self._put(db, source, seen, record, seen.observation, origin)
        for group in (self._group(db, source, external_id) for external_id in loss.ended):
            if group is not None:
                directory.remove_member(db, group.id, record.id)
                polled.note_ended(db, group.id, record.id, seen.at)
        self._people.look_again(db, [record.person_id], Cause(origin, f"{source}: {loss.why}"))
        has = {grant.team for grant in people.grants(db, record.person_id) if grant.state == "granted"}
        departs = not departed and ledger.open_departure(db, record.person_id) is not None
        label = person.label if person is not None else seen.user_name
        return Effect(record.person_id, label, departs, frozenset(had - has))

    def count(self, db: Db, source: str, effect: Effect) -> None:
        """Count a loss that was done, for the guard's 24 hours."""
        now = self._clock.now()
        for team in sorted(effect.teams | ({""} if effect.departs else set())):
            polled.note_lost(db, source, effect.person_id, team, now)

    def hold(self, db: Db, source: str, loss: Loss, effect: Effect, kind: str, reason: str) -> str:
        """Keep a loss until somebody decides; a loss that is held already stays where it is, as it is seen now."""
        now = self._clock.now()
        held = polled.held_loss(db, source, loss.user.external_id)
        hold_id = held.hold_id if held is not None else self._people.open_hold(db, kind, reason)
        polled.hold_loss(db, HeldLoss(source, loss.user.external_id, hold_id, effect.person_id, loss.as_json()), now)
        cause = loss.user.why if effect.departs else f"loses {', '.join(sorted(effect.teams))}"
        item = ledger.HoldItem(hold_id, effect.person_id, f"@{source}", cause, loss.version)
        ledger.add_item(db, item)
        return hold_id

    def release(self, db: Db, source: str, external_id: str, origin: Origin, why: str) -> None:
        """Take somebody out of the hold that keeps their loss: there is nothing to lose any more."""
        held = polled.held_loss(db, source, external_id)
        if held is not None:
            polled.drop_held(db, source, external_id)
            ledger.drop_items(db, held.person_id, f"@{source}")
            person = people.person(db, held.person_id)
            label = person.label if person is not None else external_id
            self._note(db, origin, "hold.dropped", label, {"hold": held.hold_id, "why": why})

    def approve(self, db: Db, hold_id: str, person_id: str, origin: Origin) -> None:
        """Do what a hold kept back for one person, unless a newer word of the same directory says otherwise."""
        for held in polled.held_losses(db, hold_id=hold_id):
            if held.person_id == person_id:
                polled.drop_held(db, held.source, held.external_id)
                self.count(db, held.source, self.lose(db, held.source, Loss.from_json(held.loss), origin))

    # -- rows -----------------------------------------------------------------------------------------------------

    def _record(self, db: Db, source: str, external_id: str) -> User | None:
        known = polled.known_users(db, source, [external_id]).get(external_id)
        return directory.user(db, source, known.id) if known is not None else None

    def _group(self, db: Db, source: str, external_id: str) -> Group | None:
        return directory.group_by_external(db, source, external_id)

    def _put(
        self, db: Db, source: str, seen: Seen, record: User | None, observation: Observation, origin: Origin
    ) -> User:
        """Write one record. A denial is as old as it was last said, presence as old as it was first said.

        So a source that goes on showing somebody never outweighs another one's later word that they have left.
        """
        now = round(self._clock.now(), 3)
        facts = _facts(seen, observation)
        name = self._free_name(db, source, facts.user_name, record)
        gone = observation is Observation.ABSENT
        same = record is not None and record.observation is observation and observation is Observation.PRESENT
        if record is None:
            person_id = self._intake.person_for(db, source, facts, now)
            self._intake.newest_word(db, source, [person_id], now)
            at = self._first_seen(db, source, person_id, seen.at) if facts.active else seen.at
            made = User(
                new_id(), source, seen.external_id, name, facts.active, facts.email, facts.display_name, facts.doc,
                now, now, 1, person_id, observation, at, now if gone else None,
            )  # fmt: skip
            self._note(db, origin, "user.created", name, {"id": made.id, "seen": observation.value, "why": seen.why})
        else:
            made = replace(
                record, user_name=name, active=facts.active, email=facts.email, display_name=facts.display_name,
                doc=facts.doc, updated_at=now, version=record.version + 1, observation=observation,
                observed_at=record.observed_at if same else seen.at, deleted_at=now if gone else None,
            )  # fmt: skip
            if record.observation is not observation:
                detail = {
                    "id": made.id,
                    "before": record.observation.value,
                    "after": observation.value,
                    "why": seen.why,
                }
                self._note(db, origin, "user.changed", name, detail)
        directory.put_user(db, made)
        directory.put_emails(db, made.id, {} if gone else made.doc)
        return made

    def _first_seen(self, db: Db, source: str, person_id: str, at: float) -> float:
        """Return as of when a first listing says that somebody is there: not after the directory has said they left."""
        idp_of = self._intake.rules.idp_of
        denied = [
            user.observed_at
            for user in directory.users_of_person_any(db, person_id)
            if user.observation in DENIALS and idp_of.get(user.source) == idp_of.get(source)
        ]
        return min(at, min(denied) - 0.001) if denied else at

    @staticmethod
    def _free_name(db: Db, source: str, wanted: str, record: User | None) -> str:
        """Return a userName that no other live record of the source has: one that is renamed later makes room now."""
        taken = directory.user_by_name(db, source, wanted)
        if taken is not None and (record is None or taken.id != record.id):
            directory.put_user(db, replace(taken, user_name=f"{taken.user_name} ({taken.external_id})"))
        return wanted

    def _put_group(self, db: Db, source: str, seen: SeenGroup, origin: Origin) -> tuple[Group, bool]:
        """Write one group; return it, and whether that has bound it to something."""
        now = round(self._clock.now(), 3)
        known = self._group(db, source, seen.external_id)
        if known is not None and known.display_name == seen.display_name:
            return known, False
        taken = directory.group_by_name(db, source, seen.display_name)
        name = seen.display_name
        if taken is not None and taken.external_id != seen.external_id:
            name = f"{name} ({seen.external_id})"
            people.open_conflict(
                db,
                "group_name",
                f"{source}:{seen.external_id}",
                f"{source} has two groups named {seen.display_name!r}; the second is not bound",
                f"idsync groups bind TEAM_OR_ROLE {seen.external_id}",
                now,
            )
        if known is None:
            made = Group(new_id(), source, seen.external_id, name, {"displayName": name}, now, now, 1)
        else:
            made = replace(
                known, display_name=name, doc={"displayName": name}, updated_at=now, version=known.version + 1
            )
        if known is not None and fold(known.display_name) == fold(name) == fold(made.display_name):
            directory.put_group(db, made)
            return made, False
        directory.put_group(db, made)
        what = "group.created" if known is None else "group.renamed"
        self._note(db, origin, what, name, {"id": made.id, "from": known.display_name if known else None})
        return made, self._intake.bindings.bind_by_name(db, made)

    def _note(self, db: Db, origin: Origin, action: str, subject: str, detail: dict[str, Any]) -> None:
        note(db, self._clock, origin, action, subject, detail)


def _gained(seen: Seen, record: User | None) -> Observation:
    """Return what a listing may make of somebody: present again, or as they were; a denial is looked up first."""
    if record is None or (seen.observation is Observation.PRESENT and seen.at > record.observed_at):
        return seen.observation if seen.observation not in DENIALS else Observation.UNKNOWN
    return record.observation


def _facts(seen: Seen, observation: Observation) -> UserFacts:
    doc: dict[str, Any] = {"userName": seen.user_name, "externalId": seen.external_id}
    if seen.display_name:
        doc["displayName"] = seen.display_name
    if seen.email:
        doc["emails"] = [{"value": seen.email, "primary": True}]
    active = observation is Observation.PRESENT
    return UserFacts(seen.user_name, seen.external_id, active, seen.email, seen.display_name, doc)
