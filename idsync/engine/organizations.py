"""Organization memberships: the last thing a departure ends, and the first a return gives back.

Where `routero.organization_id` is set, whoever is outside of that organization is 404 for us: neither fence nor role
can be read any more. So a membership ends when everything was looked at twice, and is written down before: the 404 of
an account that we have put outside is no doubt, and a return knows where to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import structlog

from idsync.engine.accounts import identity_of
from idsync.engine.admins import MASTER
from idsync.engine.case import Case
from idsync.engine.desk import Desk, every
from idsync.engine.looking import Sight
from idsync.errors import Missing, NeedsPerson, Rejected, StillAlive, Transient, Unsupported
from idsync.gateway import slots
from idsync.gateway.slots import urgency
from idsync.model import GatewayUser, Person
from idsync.policy import ADMIN_ROLES
from idsync.store import canary, directory, journal, ledger, organizations, people
from idsync.store.db import Db
from idsync.store.organizations import Left

LEAST_ROLE = "internal_user_viewer"
"""What somebody who was an admin there comes back as, where policy gives them no role."""
Shown = Mapping[str, Sequence[Left]]
"""The memberships that the gateway shows, by account."""
log = structlog.get_logger(__name__)


# -- leaving ----------------------------------------------------------------------------------------------------------


async def end_memberships(case: Case, sights: Sequence[Sight]) -> None:
    """End the memberships of these accounts; nothing of a departure is called after this.

    What ends, or had ended when an earlier run died, is left in `case.outside` for the ledger. A gateway that cannot
    keeps them, and the receipt says so. The account of a drill's canary is deleted as a whole, and has to be seen then.

    Raises:
        StillAlive: the gateway still shows one after saying that it had ended.
    """
    if canary.is_one(case.desk.db, case.person.id):
        return
    urgency.set(slots.TIDY)
    accounts = [sight.account_id for sight in sights if sight.user is not None and sight.account_id != MASTER]
    try:
        shown = await _shown(case, accounts)
    except Unsupported:
        case.features["organization"] = "missing"
        return
    if any(shown.values()):
        shown = await _end(case, list(chain.from_iterable(shown.values())), shown)
    own = {sight.account_id for sight in sights}
    noted = [left for left in organizations.of_person(case.desk.db, case.person.id) if left.account_id in own]
    case.outside = [replace(left, hidden=left.account_id not in shown) for left in noted]
    case.note_ended("organizations", [left.organization_id for left in noted if left.left_at is None])


async def _end(case: Case, held: Sequence[Left], accounts: Iterable[str]) -> Shown:
    """End these memberships; return what the gateway shows then."""
    _tell_what_came_back(case, held)
    now = case.desk.clock.now()
    await case.write(lambda db: _note(db, held, now))
    answers = await every(_end_one(case.desk, left) for left in held)
    shown = await _shown(case, accounts)
    still = {_key(left) for left in chain.from_iterable(shown.values())}
    stayed = [(left, answer) for left, answer in zip(held, answers, strict=True) if _key(left) in still]
    kept = [left for left, answer in stayed if answer != "used"]
    case.features["organization"] = next((answer for _, answer in stayed if answer != "used"), "used")
    if kept:
        await case.write(lambda db: _forget(db, kept))
    lied = sorted(left.organization_id for left, answer in stayed if answer == "used")
    if lied:
        msg = f"the gateway still shows {case.person.label} in organization {', '.join(lied)} after saying it was left"
        raise StillAlive(msg)
    return shown


async def _end_one(desk: Desk, left: Left) -> str:
    """End one membership; say whether the gateway would do it: used, missing or refused."""
    try:
        await desk.gateway.leave_organization(left.organization_id, left.account_id)
    except Unsupported:
        return "missing"
    except Rejected:
        return "refused"
    return "used"


def _tell_what_came_back(case: Case, held: Iterable[Left]) -> None:
    """What this departure had ended is there again: a security event."""
    ended = {_key(left): left.left_at for left in organizations.of_person(case.desk.db, case.person.id)}
    if any((ended.get(_key(left)) or 0.0) >= case.departure.accepted_at for left in held):
        case.came_back_after_proof("organization")


def record(db: Db, case: Case, now: float) -> None:
    """Write down that memberships have ended, each with an entry of its own."""
    for left in case.outside:
        organizations.mark_left(db, left, now)
        if left.left_at is None:
            _audit(db, "organization.left", case.person, left, now, before=left.role, after=None)


# -- coming back ------------------------------------------------------------------------------------------------------


async def give_back(desk: Desk, person: Person) -> None:
    """Put the accounts of somebody who is here again back where a departure has taken them out.

    Raises:
        NeedsPerson: the gateway will not take them.
        Transient: it does not show them there after saying that it had.
    """
    own = {person.account_id, *people.further_accounts(desk.db, person.id)}
    for left in organizations.of_person(desk.db, person.id):
        if left.account_id in own:
            await _give_one_back(desk, person, left)


async def _give_one_back(desk: Desk, person: Person, left: Left) -> None:
    role = _role_for(desk, person, left)
    joined = await _join(desk, person, left, role) if await _can_join(desk, left) else False
    if joined:
        await _complete(desk, person, left)
    now = desk.clock.now()

    def write(db: Db) -> None:
        organizations.forget(db, left)
        people.resolve_conflicts(db, "organization", person.id, now)
        if joined:
            _audit(db, "organization.joined", person, left, now, before=None, after=role)

    await desk.write(write)


async def _can_join(desk: Desk, left: Left) -> bool:
    """Tell whether they are still outside; an account that is no more is made anew, not by its membership."""
    if left.organization_id in await _organizations_of(desk, left.account_id):
        return False
    seen = left.left_at is not None and not left.hidden
    return not seen or await desk.gateway.get_user(left.account_id) is not None


async def _join(desk: Desk, person: Person, left: Left, role: str) -> bool:
    """Make an account a member again; False when the organization is no more."""
    desk.still_wanted()
    try:
        await desk.gateway.join_organization(left.organization_id, left.account_id, role)
    except Missing:
        log.warning("organization.gone", organization=left.organization_id, person=person.id)
        return False
    except (Unsupported, Rejected) as error:
        msg = f"the gateway does not take {person.label} back into organization {left.organization_id}: {error}"
        raise NeedsPerson("organization", msg, "add them there by hand, then idsync reconcile") from error
    if left.organization_id not in await _organizations_of(desk, left.account_id):
        msg = f"the gateway does not show {person.label} in organization {left.organization_id} yet"
        raise Transient(msg)
    return True


async def _complete(desk: Desk, person: Person, left: Left) -> None:
    """Give an e-mail to an account that was deleted while it could not be seen: joining has made it anew, bare.

    Theirs had our fence.
    """
    user, email = await desk.gateway.get_user(left.account_id), identity_of(desk, person).email
    if user is None or user.fenced or user.email is not None or email is None:
        return
    desk.still_wanted()
    try:
        await desk.gateway.update_user(user, email=email)
    except Rejected as error:
        log.warning("organization.account_without_email", account=left.account_id, error=str(error))


def _role_for(desk: Desk, person: Person, left: Left) -> str:
    """The role policy gives, else what they were there; nobody comes back as an admin."""
    wanted = desk.rules.account_role(person.role) or left.role or LEAST_ROLE
    return LEAST_ROLE if wanted in ADMIN_ROLES else wanted


# -- an address that somebody new needs ---------------------------------------------------------------------------------


async def free_the_address(desk: Desk, person: Person, email: str, *, to: str) -> None:
    """Take an e-mail away from accounts that departures have put outside: each is let in for as long as that takes.

    They are fenced, and have neither keys nor teams.
    """
    for other in directory.persons_with_email_any(desk.db, email):
        departed = people.person(desk.db, other) if other != person.id else None
        if departed is None or ledger.open_departure(desk.db, other) is None:
            continue
        for left in organizations.of_person(desk.db, other):
            if left.organization_id == desk.gateway.organization_id:
                await _rename_one(desk, departed, left, email, to)


async def _rename_one(desk: Desk, other: Person, left: Left, email: str, to: str) -> None:
    now = desk.clock.now()
    await desk.write(lambda db: organizations.note(db, left, now))
    if left.organization_id not in await _organizations_of(desk, left.account_id):
        await _join(desk, other, left, LEAST_ROLE)
    user = await desk.gateway.get_user(left.account_id)
    if user is not None and _has(user, email):
        desk.still_wanted()
        await desk.gateway.update_user(user, email=to.format(user_id=user.user_id))
    await _end_one(desk, left)
    if left.organization_id in await _organizations_of(desk, left.account_id):
        msg = f"the gateway still shows the account of {other.label} in organization {left.organization_id}"
        raise StillAlive(msg)
    await desk.write(lambda db: organizations.mark_left(db, replace(left, hidden=True), now))


def _has(user: GatewayUser, email: str) -> bool:
    return (user.email or "").casefold() == email.casefold()


# -- parts ------------------------------------------------------------------------------------------------------------


async def _shown(case: Case, accounts: Iterable[str]) -> Shown:
    """Read every membership of these accounts; those that the gateway does not show are left out."""
    asked = list(accounts)
    found = zip(asked, await every(map(case.desk.gateway.organizations_of, asked)), strict=True)
    return {
        account: [Left(account, place.organization_id, case.person.id, place.role) for place in places]
        for account, places in found
        if places is not None
    }


async def _organizations_of(desk: Desk, account_id: str) -> set[str]:
    return {place.organization_id for place in await desk.gateway.organizations_of(account_id) or ()}


def _key(left: Left) -> tuple[str, str]:
    return left.account_id, left.organization_id


def _note(db: Db, held: Iterable[Left], at: float) -> None:
    for left in held:
        organizations.note(db, left, at)


def _forget(db: Db, kept: Iterable[Left]) -> None:
    for left in kept:
        organizations.forget(db, left)


def _audit(
    db: Db, action: str, person: Person, left: Left, now: float, *, before: str | None, after: str | None
) -> None:
    detail = {"organization": left.organization_id, "account": left.account_id, "before": before, "after": after}
    journal.append(db, at=now, actor="engine", action=action, subject=person.label, detail=detail)
