"""What one run knows of one departure: what it found, what it ended and how, and every call it made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from idsync.engine.desk import Desk
from idsync.engine.exposed import Census
from idsync.errors import Superseded
from idsync.model import Call, DepartureState, GatewayKey, Person
from idsync.store import ledger, organizations
from idsync.store.db import Db
from idsync.store.ledger import Departure
from idsync.store.organizations import Left
from idsync.traces import Departing

T = TypeVar("T")
ORDER = (
    DepartureState.ACCEPTED,
    DepartureState.FENCED,
    DepartureState.BLOCKED,
    DepartureState.DELETED,
    DepartureState.VERIFIED,
    DepartureState.SETTLED,
)


@dataclass
class Case:
    """One run of one departure.

    `doomed` are the keys that are deleted, and asked for by id, also those of runs before; `left` the teams. `again`
    names what had been ended and was found alive: fence, key, member, role, invitation, organization, or another
    account. `features` says which means of the gateway were used, and which it does not have. `outside` are the
    memberships of organizations that were found ended, for the ledger.
    """

    desk: Desk
    person: Person
    departure: Departure
    calls: list[Call]
    doomed: dict[str, GatewayKey]
    trace: Departing
    left: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    ended: dict[str, set[str]] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    standing: dict[str, Any] = field(default_factory=dict)
    census: Census | None = None
    outside: Sequence[Left] = ()
    fence: str = "assumed"
    fence_sent_at: float | None = None
    deleted_at: float | None = None
    told: int = 0

    @property
    def blocks(self) -> bool:
        """Whether the gateway can block a key, as far as it was asked."""
        return self.features.get("block") != "missing"

    @property
    def ended_before(self) -> bool:
        """Whether access had been read back as ended: what is alive now has come back."""
        return self.departure.access_ended_at is not None or self.departure.verified_at is not None

    @property
    def is_second_look(self) -> bool:
        due = self.departure.settle_at
        return self.departure.verified_at is not None and due is not None and self.desk.clock.now() >= due

    def put_outside(self, accounts: Iterable[str]) -> bool:
        """Tell whether a departure has taken one of these accounts out of an organization: its 404 is no doubt."""
        return not {left.account_id for left in organizations.of_person(self.desk.db, self.person.id)}.isdisjoint(
            accounts
        )

    def known_gone(self) -> list[str]:
        """Return the ids of keys that were proven gone; at the second look they are asked for once more."""
        listed = (self.departure.receipt or {}).get("keys", []) if self.is_second_look else []
        return [str(entry["id"]) for entry in listed if entry["id"] not in self.doomed]

    def came_back(self, what: str) -> None:
        """Note that access is ended again: it had been ended, whether deletion was due then or not."""
        if self.ended_before:
            self.again.add(what)

    def came_back_after_proof(self, what: str) -> None:
        """Note that something is ended that had been proven gone."""
        if self.departure.verified_at is not None:
            self.again.add(what)

    def note_ended(self, what: str, names: Iterable[str]) -> None:
        """Note for the receipt what else was ended: roles, invitations, sessions."""
        self.ended.setdefault(what, set()).update(names)

    async def write(self, work: Callable[[Db], T]) -> T:
        """Write, with the calls made so far; see `Desk.write`."""
        calls = self.calls[self.told :]

        def both(db: Db) -> T:
            ledger.add_calls(db, self.departure.id, calls)
            return work(db)

        result = await self.desk.write(both)
        self.told += len(calls)
        return result

    def add_calls(self, db: Db) -> None:
        """Write the calls that were not written yet; the last thing a run does."""
        ledger.add_calls(db, self.departure.id, self.calls[self.told :])

    def advance(self, db: Db, state: DepartureState, **times: Any) -> Departure:
        """Move the departure forward, never back; a time once noted stays, and a problem until it is solved."""
        current = ledger.departure(db, self.departure.id)
        if current is None or current.closed_at is not None:
            raise Superseded
        kept = {name: value for name, value in times.items() if getattr(current, name) is None and value is not None}
        reached = current.state in ORDER and ORDER.index(current.state) >= ORDER.index(state)
        moved = replace(current, state=current.state if reached else state, **kept)
        ledger.put_departure(db, moved)
        for name, value in kept.items():
            if name in ("fenced_at", "blocked_at", "deleted_at", "verified_at"):
                stage, seconds = name.removesuffix("_at"), value - current.received_at
                self.desk.telemetry.stage(stage, seconds)
                self.trace.reached(stage, value, seconds)
        return moved
