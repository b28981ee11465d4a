"""Which gateway account is theirs: the stored link, the SSO id, the trusted e-mail; otherwise a person decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from idsync.engine.desk import Desk, every
from idsync.errors import NeedsPerson, Transient
from idsync.model import GatewayUser, Person, User, fold
from idsync.policy import ADMIN_ROLES, protection
from idsync.store import called, directory, facts, ledger, people
from idsync.store.db import Db

DEPARTED_ADDRESS = "departed+{user_id}@invalid"
"""What the e-mail of a departed account becomes once somebody new needs it."""


@dataclass(frozen=True)
class Identity:
    """How the directory names a person, the newest live record first.

    `former` are names they had before: the record was renamed since, or somebody else has taken it over. The account of
    a leaver is looked for by these too; nobody is given an account by a name they have no more.
    """

    email: str | None = None
    external_id: str | None = None
    display_name: str | None = None
    emails: tuple[str, ...] = ()
    trusted_emails: tuple[str, ...] = ()
    sso_ids: tuple[str, ...] = ()
    unclear_ids: tuple[str, ...] = ()
    """Ids of directories of which nobody has said whether the gateway has them as SSO ids."""
    former: Identity | None = None

    @property
    def every_email(self) -> tuple[str, ...]:
        return (*self.emails, *(self.former.emails if self.former else ()))

    @property
    def every_trusted_email(self) -> tuple[str, ...]:
        return (*self.trusted_emails, *(self.former.trusted_emails if self.former else ()))

    @property
    def stages(self) -> tuple[Identity, ...]:
        """What to look by, the names they have now first."""
        return (self, self.former) if self.former else (self,)

    def without(self, is_out: Callable[[str], bool]) -> Identity:
        """Leave trusted e-mails out."""
        left = tuple(email for email in self.trusted_emails if not is_out(email))
        former = self.former.without(is_out) if self.former else None
        return replace(self, trusted_emails=left, former=former)


def identity_of(desk: Desk, person: Person) -> Identity:
    """Gather the names of a person from their records; tombstones count for finding, not for creating."""
    users = directory.users_of_person_any(desk.db, person.id)
    newest = sorted(users, key=lambda user: (user.deleted_at is None, user.updated_at), reverse=True)
    first = newest[0] if newest else None
    said = [(user.source, user.address, user.external_id) for user in newest]
    now = _identity(desk, said)
    return replace(
        now,
        email=first.address if first else None,
        external_id=_sso_id(desk, newest),
        display_name=first.display_name if first else None,
        former=_former(desk, person, users),
    )


def _sso_id(desk: Desk, newest: Sequence[User]) -> str | None:
    """Return the id by which single sign-on will know a new account; an id of another directory is somebody else's."""
    theirs = [user for user in newest if desk.rules.idp_of.get(user.source, "") == desk.rules.sso_idp]
    return next((user.external_id for user in theirs if user.deleted_at is None and user.external_id), None)


def _former(desk: Desk, person: Person, users: Sequence[User]) -> Identity | None:
    known = called.names(desk.db, person.id)
    addresses = {fold(user.address) for user in users if user.address}
    emails = [one for one in known if one.kind == "address" and fold(one.name) not in addresses]
    now = {(user.source, user.external_id) for user in users}
    ids = [one for one in known if one.kind == "external_id" and (one.source, one.name) not in now]
    if not emails and not ids:
        return None
    said: list[tuple[str, str | None, str | None]] = [(one.source, one.name, None) for one in emails]
    return _identity(desk, [*said, *((one.source, None, one.name) for one in ids)])


def _identity(desk: Desk, said: Iterable[tuple[str, str | None, str | None]]) -> Identity:
    """Sort out what sources have said: source, address, external id."""
    every_one = list(said)
    sso, unclear = desk.rules.sso_idp, desk.rules.sso_idp is None
    ids = [(desk.rules.idp_of.get(source), external) for source, _, external in every_one if external]
    return Identity(
        emails=tuple(dict.fromkeys(email for _, email, _ in every_one if email)),
        trusted_emails=tuple(
            dict.fromkeys(email for source, email, _ in every_one if email and source in desk.rules.trust_email)
        ),
        sso_ids=tuple(dict.fromkeys(external for idp, external in ids if idp == sso and not unclear)),
        unclear_ids=tuple(dict.fromkeys(external for _, external in ids if unclear)),
    )


def addresses_ever(db: Db, person_id: str, trusted: Collection[str] | None = None) -> set[str]:
    """Return the addresses of a person, of these sources; former ones only while nobody else who is here has them."""
    users = directory.users_of_person_any(db, person_id)
    now = {user.address for user in users if user.address and (trusted is None or user.source in trusted)}
    former = {
        one.name
        for one in called.names(db, person_id)
        if one.kind == "address" and (trusted is None or one.source in trusted)
    }
    known = {fold(email) for email in now}
    return now | {email for email in former if fold(email) not in known and not is_in_use(db, person_id, email)}


async def accounts_of(desk: Desk, person: Person, identity: Identity, *, stays: bool) -> tuple[str, ...]:
    """Return the user_ids of a person's accounts, the primary first; empty when they have none.

    Raises:
        Transient: `stays`, and a leaver of the same e-mail has not been revoked yet; the account may be theirs.
        NeedsPerson: several accounts, a protected one or an admin's would match.
    """
    if person.account_id is None:
        if stays:
            _refuse_before_a_leaver(desk, person, identity)
        found = await match(
            desk, person, replace(identity, former=None) if stays else _still_theirs(desk, person, identity)
        )
        if found is None:
            further = () if stays else tuple(people.further_accounts(desk.db, person.id))
            if not stays and not further:
                _refuse_the_nameless(person, identity)
            return further
        await desk.write(lambda db: people.link_account(db, person.id, found))
        primary = found
    else:
        primary = person.account_id
    return (primary, *people.further_accounts(desk.db, person.id))


def _refuse_before_a_leaver(desk: Desk, person: Person, identity: Identity) -> None:
    """Nobody takes over an account by e-mail while somebody of that e-mail is still being revoked."""
    for email in identity.emails:
        for other in directory.persons_with_email_any(desk.db, email):
            departure = ledger.open_departure(desk.db, other) if other != person.id else None
            if departure is not None and departure.verified_at is None:
                msg = f"{departure.label} had the e-mail of {person.label} and is not proven revoked yet"
                raise Transient(msg)


def _refuse_the_nameless(person: Person, identity: Identity) -> None:
    """That no account was found proves nothing when nothing was known to look by.

    Raises:
        NeedsPerson: no address and no id of this person is known, now or formerly.
    """
    if not any(one.emails or one.sso_ids or one.unclear_ids for one in identity.stages):
        msg = f"nothing is known of {person.label} by which their gateway account could be found"
        raise NeedsPerson("account", msg, f"idsync link {person.label} GATEWAY_USER_ID")


async def match(desk: Desk, person: Person, identity: Identity) -> str | None:
    """Return the account of somebody who is linked to none, changing nothing; None when there is none.

    Raises:
        NeedsPerson: several accounts, a protected one or an admin's would match.
    """
    looked = [
        _one(desk.gateway.get_user(person.id)),  # a grant that was cut off
        *(_by_sso_id(desk, person, names.sso_ids) for names in identity.stages),
        *(unowned(desk, names.trusted_emails) for names in identity.stages),
    ]
    (own, *found), stages = await every(looked), len(identity.stages)  # side by side: a joiner waits for all of them
    if own:
        return own[0].user_id
    for by_sso in found[:stages]:
        if by_sso:
            return _the_one(desk, person, by_sso, "SSO id")
    for names, theirs in zip(identity.stages, found[stages:], strict=True):
        free = [user for user in theirs if not was_unlinked(desk, person, user)]
        if free:
            account = _the_one(desk, person, free, "e-mail")
            _refuse_a_shared_address(desk, person, account, names.trusted_emails)
            return account
    for names in identity.stages:
        await _refuse_an_unclear_id(desk, person, names.unclear_ids)
    return None


async def _one(call: Awaitable[GatewayUser | None]) -> list[GatewayUser]:
    user = await call
    return [user] if user is not None else []


async def unowned(desk: Desk, emails: Iterable[str]) -> list[GatewayUser]:
    """Return the gateway's accounts with one of these e-mails that are linked to nobody."""
    lists = await every(desk.gateway.find_users(email=email) for email in emails)
    found = _unique([user for users in lists for user in users])
    return [user for user in found if people.person_of_account(desk.db, user.user_id) is None]


def was_unlinked(desk: Desk, person: Person, account: GatewayUser) -> bool:
    """Tell whether somebody has said that this account is not theirs; links are never guessed again."""
    return bool(facts.get(desk.db, f"unlinked:{person.id}:{account.user_id}"))


async def _by_sso_id(desk: Desk, person: Person, ids: Iterable[str]) -> list[GatewayUser]:
    lists = await every(desk.gateway.find_users(sso_user_id=external) for external in ids)
    found = _unique([user for users in lists for user in users])
    return [user for user in found if not was_unlinked(desk, person, user)]


async def _refuse_an_unclear_id(desk: Desk, person: Person, ids: Iterable[str]) -> None:
    """Two directories may have the same id for two people: 1001 of one is not 1001 of the other.

    Raises:
        NeedsPerson: an account of nobody has such an id.
    """
    found = await _by_sso_id(desk, person, ids)
    free = sorted(user.user_id for user in found if people.person_of_account(desk.db, user.user_id) is None)
    if free:
        msg = f"gateway account {', '.join(free)} has the id of {person.label} as SSO id, maybe of another directory"
        remedy = f"idsync link {person.label} GATEWAY_USER_ID; or say with routero.sso_idp whose ids these are"
        raise NeedsPerson("account", msg, remedy)


def _the_one(desk: Desk, person: Person, found: list[GatewayUser], what: str) -> str:
    """Return the only account found, unless linking it would be a guess or a danger."""
    remedy = f"idsync link {person.label} GATEWAY_USER_ID"
    ids = ", ".join(sorted(user.user_id for user in found))
    if len(found) > 1:
        raise NeedsPerson("account", f"{len(found)} gateway accounts have the {what} of {person.label}: {ids}", remedy)
    account = found[0]
    owner = people.person_of_account(desk.db, account.user_id)
    if owner is not None and owner.id != person.id:
        raise NeedsPerson("account", f"gateway account {ids} belongs to {owner.label} already", remedy)
    if account.role in ADMIN_ROLES and what == "e-mail":
        raise NeedsPerson(
            "account", f"gateway account {ids} of {person.label} is an admin; not linked by {what}", remedy
        )
    if protection([account.user_id, account.email], desk.rules, desk.clock.now()):
        raise NeedsPerson("account", f"gateway account {ids} is protected; not linked to {person.label}", remedy)
    return account.user_id


def _refuse_a_shared_address(desk: Desk, person: Person, account: str, emails: Iterable[str]) -> None:
    """An address that somebody else who is here has as well tells nobody whose account it is.

    Who was given the address of a leaver only afterwards cannot be meant: the account was there before.

    Raises:
        NeedsPerson: somebody else has it, of a source whose e-mails are trusted.
    """
    departure = ledger.open_departure(desk.db, person.id)
    for email in emails:
        for other in directory.live_users_at(desk.db, email):
            if other.person_id == person.id or other.source not in desk.rules.trust_email:
                continue
            had = called.since(desk.db, other.person_id, "address", email)
            if departure is None or had is None or had < departure.received_at:
                msg = (
                    f"gateway account {account} has the e-mail of {person.label}, and of {other.user_name}, who is here"
                )
                remedy = (
                    f"idsync link {other.person_id} {account} if it is {other.user_name}'s,"
                    f" idsync link {person.id} {account} if it is {person.label}'s"
                )
                raise NeedsPerson("account", msg, remedy)


def _still_theirs(desk: Desk, person: Person, identity: Identity) -> Identity:
    """Once a departure is proven, what turns up under an address that somebody else has now is that one's."""
    departure = ledger.open_departure(desk.db, person.id)
    if departure is None or departure.verified_at is None:
        return identity
    return identity.without(lambda email: is_in_use(desk.db, person.id, email))


async def instead_of_the_missing(desk: Desk, person: Person, identity: Identity) -> list[str]:
    """Find the account of a leaver whose linked one is not at the gateway: made anew there, or linked wrongly.

    What is found is linked as a further account.

    Raises:
        NeedsPerson: several accounts, a protected one or an admin's would match.
    """
    found = await match(desk, person, _still_theirs(desk, person, identity))
    if found is None or people.person_of_account(desk.db, found) is not None:
        return []
    now = desk.clock.now()
    await desk.write(lambda db: people.add_further_account(db, person.id, found, now))
    return [found]


def is_in_use(db: Db, person_id: str, email: str) -> bool:
    """Tell whether somebody else who is here has an e-mail now: addresses are given to the next one."""
    return any(user.person_id != person_id for user in directory.live_users_at(db, email))


def _unique(found: list[GatewayUser]) -> list[GatewayUser]:
    return list({user.user_id: user for user in found}.values())


async def free_the_address(desk: Desk, person: Person, email: str) -> None:
    """Take the e-mail away from a departed person's account, so that somebody new can have it.

    Raises:
        Transient: that departure is not verified yet; try again.
        NeedsPerson: the account belongs to somebody who is here.
    """
    for account in await desk.gateway.find_users(email=email):
        owner = people.person_of_account(desk.db, account.user_id)
        if owner is None or owner.id == person.id:
            continue
        departure = ledger.open_departure(desk.db, owner.id)
        if departure is None:
            remedy = f"idsync link {person.label} GATEWAY_USER_ID"
            msg = f"the e-mail of {person.label} belongs to {owner.label}, who is here"
            raise NeedsPerson("account", msg, remedy)
        if departure.verified_at is None:
            msg = f"the e-mail of {person.label} is on the account of {owner.label}, whose departure is not verified"
            raise Transient(msg)
        desk.still_wanted()
        await desk.gateway.update_user(account, email=DEPARTED_ADDRESS.format(user_id=account.user_id))


def remember(db: Db, desk: Desk, person: Person, problem: NeedsPerson) -> None:
    """Note a conflict so that `idsync status` shows it with what settles it."""
    people.open_conflict(db, problem.kind, person.id, str(problem), problem.remedy, desk.clock.now())
