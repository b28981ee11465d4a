"""Persons, what policy gives them, what was taken, and what only a person can decide (conflicts)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from idsync.clock import new_id
from idsync.model import Evidence, Person, fold
from idsync.store import exposure
from idsync.store.db import Db, Row


@dataclass(frozen=True)
class Grant:
    """A team policy gives ("granted"), or gave until `lost_at` ("leaving"). Times are epoch seconds.

    `role` is what they are in it: "user" or "admin".
    """

    person_id: str
    team: str
    state: str
    since: float
    evidence: Evidence | None = None
    lost_at: float | None = None
    delete_at: float | None = None
    hold_id: str | None = None
    destroyed: bool = False
    role: str = "user"


@dataclass(frozen=True)
class Binding:
    kind: str
    target: str
    spec: str
    source: str
    group_id: str


@dataclass(frozen=True)
class Ban:
    id: str
    person_id: str
    label: str
    reason: str
    override: bool
    created_at: float
    created_by: str


@dataclass(frozen=True)
class BlockedKey:
    key_id: str
    person_id: str
    account_id: str
    team_id: str | None
    doomed: bool
    name: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Conflict:
    id: str
    kind: str
    subject: str
    detail: str
    remedy: str
    created_at: float


# -- persons ----------------------------------------------------------------------------------------------------


def _person(row: Row) -> Person:
    return Person(
        row["id"],
        row["label"],
        row["account_id"],
        row["generation"],
        row["role"],
        bool(row["ever_had_access"]),
        row["created_at"],
    )


def person(db: Db, person_id: str) -> Person | None:
    row = db.one("SELECT * FROM persons WHERE id = :id", id=person_id)
    return _person(row) if row else None


def person_of_account(db: Db, account_id: str) -> Person | None:
    """Return who is linked to a gateway account, as the primary or a further one."""
    row = db.one(
        "SELECT p.* FROM persons p WHERE p.account_id = :account OR p.id IN"
        " (SELECT person_id FROM person_accounts WHERE account_id = :account)",
        account=account_id,
    )
    return _person(row) if row else None


def all_persons(db: Db) -> list[Person]:
    return [_person(row) for row in db.all("SELECT * FROM persons ORDER BY label, id")]


def persons_called(db: Db, label: str) -> list[Person]:
    rows = db.all("SELECT * FROM persons WHERE label = :label ORDER BY id", label=label)
    return [_person(row) for row in rows]


def new_person(db: Db, label: str, at: float, *, account_id: str | None = None) -> str:
    person_id = new_id()
    db.execute(
        "INSERT INTO persons (id, label, account_id, generation, ever_had_access, created_at)"
        " VALUES (:id, :label, :account, 0, 0, :at)",
        id=person_id,
        label=label,
        account=account_id,
        at=at,
    )
    return person_id


def update_person(db: Db, person_id: str, *, label: str, role: str | None, ever_had_access: bool) -> None:
    db.execute(
        "UPDATE persons SET label = :label, role = :role, ever_had_access = :ever WHERE id = :id",
        id=person_id,
        label=label,
        role=role,
        ever=int(ever_had_access),
    )


def name_again(db: Db, person_id: str, label: str) -> None:
    """Give a name to somebody whom retention had forgotten, and who is back; a name that is there stays."""
    db.execute("UPDATE persons SET label = :label WHERE id = :id AND label = id", id=person_id, label=label)


def rename(db: Db, person_id: str, label: str) -> None:
    db.execute("UPDATE persons SET label = :label WHERE id = :id", id=person_id, label=label)


def bump_generation(db: Db, person_id: str) -> int:
    """Raise a person's generation and return it; every commit that touches their access does this."""
    row = db.one("UPDATE persons SET generation = generation + 1 WHERE id = :id RETURNING generation", id=person_id)
    return int(row["generation"]) if row else 0


def link_account(db: Db, person_id: str, account_id: str | None) -> None:
    db.execute("UPDATE persons SET account_id = :account WHERE id = :id", id=person_id, account=account_id)
    if account_id is not None:  # the guard counts departures of people with something to lose
        db.execute("UPDATE departures SET counts = 1 WHERE person_id = :id", id=person_id)


def further_accounts(db: Db, person_id: str) -> list[str]:
    rows = db.all(
        "SELECT account_id FROM person_accounts WHERE person_id = :person ORDER BY account_id", person=person_id
    )
    return [row["account_id"] for row in rows]


def add_further_account(db: Db, person_id: str, account_id: str, at: float) -> None:
    db.execute(
        "INSERT INTO person_accounts (account_id, person_id, linked_at) VALUES (:account, :person, :at)"
        " ON CONFLICT (account_id) DO UPDATE SET person_id = excluded.person_id, linked_at = excluded.linked_at",
        account=account_id,
        person=person_id,
        at=at,
    )


def drop_account(db: Db, person_id: str, account_id: str) -> bool:
    """Undo a link, and forget the account's keys with it: they are somebody else's. False when there was none."""
    db.execute(
        "DELETE FROM blocked_keys WHERE person_id = :person AND account_id = :account",
        person=person_id,
        account=account_id,
    )
    changed = db.execute(
        "DELETE FROM person_accounts WHERE account_id = :account AND person_id = :person",
        account=account_id,
        person=person_id,
    )
    changed += db.execute(
        "UPDATE persons SET account_id = NULL WHERE id = :person AND account_id = :account",
        account=account_id,
        person=person_id,
    )
    return changed > 0


# -- grants -----------------------------------------------------------------------------------------------------


def _grant(row: Row) -> Grant:
    return Grant(
        row["person_id"],
        row["team"],
        row["state"],
        row["since"],
        Evidence(row["evidence"]) if row["evidence"] else None,
        row["lost_at"],
        row["delete_at"],
        row["hold_id"],
        bool(row["destroyed"]),
        row["role"],
    )


def grants(db: Db, person_id: str) -> list[Grant]:
    rows = db.all("SELECT * FROM grants WHERE person_id = :person ORDER BY team", person=person_id)
    return [_grant(row) for row in rows]


def grants_of_hold(db: Db, hold_id: str) -> list[Grant]:
    rows = db.all("SELECT * FROM grants WHERE hold_id = :hold ORDER BY person_id, team", hold=hold_id)
    return [_grant(row) for row in rows]


def leaving(db: Db, team: str) -> list[Grant]:
    """Return everybody's grant of a team that is being left, by person."""
    rows = db.all("SELECT * FROM grants WHERE team = :team AND state = 'leaving' ORDER BY person_id", team=team)
    return [_grant(row) for row in rows]


def put_grant(db: Db, grant: Grant) -> None:
    """Write down a team that is given or being left, and with it whose keys somebody may know."""
    if grant.state == "granted":
        exposure.is_given(db, grant.person_id, grant.team)
    elif grant.lost_at is not None:
        exposure.left_team(db, grant.person_id, grant.team, grant.lost_at)
    db.execute(
        "INSERT INTO grants (person_id, team, state, since, evidence, lost_at, delete_at, hold_id, destroyed, role)"
        " VALUES (:person, :team, :state, :since, :evidence, :lost_at, :delete_at, :hold, :destroyed, :role)"
        " ON CONFLICT (person_id, team) DO UPDATE SET state = excluded.state, since = excluded.since,"
        " evidence = excluded.evidence, lost_at = excluded.lost_at, delete_at = excluded.delete_at,"
        " hold_id = excluded.hold_id, destroyed = excluded.destroyed, role = excluded.role",
        person=grant.person_id,
        team=grant.team,
        state=grant.state,
        since=grant.since,
        evidence=grant.evidence.value if grant.evidence else None,
        lost_at=grant.lost_at,
        delete_at=grant.delete_at,
        hold=grant.hold_id,
        destroyed=int(grant.destroyed),
        role=grant.role,
    )


def drop_grant(db: Db, person_id: str, team: str) -> None:
    db.execute("DELETE FROM grants WHERE person_id = :person AND team = :team", person=person_id, team=team)


def drop_grants(db: Db, person_id: str) -> None:
    db.execute("DELETE FROM grants WHERE person_id = :person", person=person_id)


def grants_of_team(db: Db, team: str) -> list[Grant]:
    return [_grant(row) for row in db.all("SELECT * FROM grants WHERE team = :team ORDER BY person_id", team=team)]


def persons_with_access(db: Db) -> list[str]:
    """Return everybody who was ever given something, sorted."""
    return [row["id"] for row in db.all("SELECT id FROM persons WHERE ever_had_access = 1 ORDER BY id")]


# -- keys that were blocked or are doomed -------------------------------------------------------------------------


def blocked_keys(db: Db, person_id: str) -> list[BlockedKey]:
    rows = db.all("SELECT * FROM blocked_keys WHERE person_id = :person ORDER BY key_id", person=person_id)
    return [
        BlockedKey(
            row["key_id"],
            row["person_id"],
            row["account_id"],
            row["team_id"],
            bool(row["doomed"]),
            row["name"],
            row["alias"],
        )
        for row in rows
    ]


def note_blocked(db: Db, key: BlockedKey, at: float) -> None:
    """Remember a key before it is blocked or deleted; doomed once is doomed for good."""
    db.execute(
        "INSERT INTO blocked_keys (key_id, person_id, account_id, team_id, name, alias, doomed, blocked_at)"
        " VALUES (:key, :person, :account, :team, :name, :alias, :doomed, :at)"
        " ON CONFLICT (key_id) DO UPDATE SET"
        " doomed = CASE WHEN blocked_keys.doomed = 1 THEN 1 ELSE excluded.doomed END",
        key=key.key_id,
        person=key.person_id,
        account=key.account_id,
        team=key.team_id,
        name=key.name,
        alias=key.alias,
        doomed=int(key.doomed),
        at=at,
    )


def forget_blocked(db: Db, key_ids: Sequence[str]) -> None:
    for key_id in key_ids:
        db.execute("DELETE FROM blocked_keys WHERE key_id = :key", key=key_id)


# -- bindings ---------------------------------------------------------------------------------------------------


def _binding(row: Row) -> Binding:
    return Binding(row["kind"], row["target"], row["spec"], row["source"], row["group_id"])


def bindings(db: Db) -> list[Binding]:
    return [_binding(row) for row in db.all("SELECT * FROM bindings ORDER BY kind, target, group_id")]


def bindings_of_groups(db: Db, group_ids: Collection[str]) -> list[Binding]:
    """Return what any of these groups is bound to."""
    if not group_ids:
        return []
    names = {f"g{number}": group for number, group in enumerate(sorted(group_ids))}
    rows = db.all(
        f"SELECT * FROM bindings WHERE group_id IN ({', '.join(f':{name}' for name in names)})"  # noqa: S608
        " ORDER BY kind, target, group_id",
        **names,
    )
    return [_binding(row) for row in rows]


def bindings_of_group(db: Db, group_id: str) -> list[Binding]:
    rows = db.all("SELECT * FROM bindings WHERE group_id = :group ORDER BY kind, target", group=group_id)
    return [_binding(row) for row in rows]


def add_binding(db: Db, binding: Binding, at: float) -> None:
    db.execute(
        "INSERT INTO bindings (kind, target, spec, source, group_id, bound_at)"
        " VALUES (:kind, :target, :spec, :source, :group, :at)"
        " ON CONFLICT (kind, target, group_id) DO UPDATE SET spec = excluded.spec",
        kind=binding.kind,
        target=binding.target,
        spec=binding.spec,
        source=binding.source,
        group=binding.group_id,
        at=at,
    )


def drop_binding(db: Db, kind: str, target: str, group_id: str) -> bool:
    changed = db.execute(
        "DELETE FROM bindings WHERE kind = :kind AND target = :target AND group_id = :group",
        kind=kind,
        target=target,
        group=group_id,
    )
    return changed > 0


# -- bans -------------------------------------------------------------------------------------------------------


def live_ban(db: Db, person_id: str) -> Ban | None:
    row = db.one(
        "SELECT * FROM bans WHERE person_id = :person AND lifted_at IS NULL ORDER BY created_at LIMIT 1",
        person=person_id,
    )
    return _ban(row) if row else None


def _ban(row: Row) -> Ban:
    return Ban(
        row["id"],
        row["person_id"],
        row["label"],
        row["reason"],
        bool(row["override"]),
        row["created_at"],
        row["created_by"],
    )


def ban_by_name(
    db: Db, user_name: tuple[str, Collection[str]], address: tuple[str, Collection[str]] | None
) -> Ban | None:
    """Return the ban of somebody who was ever called so: each name with the sources whose word counts for it.

    Names without a source are what the gateway, or whoever banned them, called them.
    """
    for kind, (name, sources) in [("user_name", user_name), *([("address", address)] if address else [])]:
        rows = db.all(
            "SELECT b.*, n.source AS said_by FROM names n JOIN bans b ON b.person_id = n.person_id"
            " WHERE n.name_key = :key AND n.kind = :kind AND b.lifted_at IS NULL ORDER BY b.created_at",
            key=fold(name),
            kind=kind,
        )
        for row in rows:
            if row["said_by"] in sources or not row["said_by"]:
                return _ban(row)
    return None


def add_ban(db: Db, ban: Ban) -> None:
    db.execute(
        "INSERT INTO bans (id, person_id, label, reason, override, created_at, created_by)"
        " VALUES (:id, :person, :label, :reason, :override, :at, :by)",
        id=ban.id,
        person=ban.person_id,
        label=ban.label,
        reason=ban.reason,
        override=int(ban.override),
        at=ban.created_at,
        by=ban.created_by,
    )


def bans_between(db: Db, since: float, before: float) -> list[tuple[Ban, float | None, str | None]]:
    """Return the bans made or lifted in a time, with when and why they were lifted."""
    rows = db.all(
        "SELECT * FROM bans WHERE (created_at >= :since AND created_at < :before)"
        " OR (lifted_at >= :since AND lifted_at < :before) ORDER BY created_at, id",
        since=since,
        before=before,
    )
    return [(_ban(row), row["lifted_at"], row["lifted_why"]) for row in rows]


def lift_bans(db: Db, person_id: str, why: str, at: float) -> int:
    return db.execute(
        "UPDATE bans SET lifted_at = :at, lifted_why = :why WHERE person_id = :person AND lifted_at IS NULL",
        person=person_id,
        at=at,
        why=why,
    )


# -- conflicts --------------------------------------------------------------------------------------------------


def open_conflict(db: Db, kind: str, subject: str, detail: str, remedy: str, at: float) -> bool:
    """Note a conflict once; False when it was open already."""
    return (
        db.execute(
            "INSERT INTO conflicts (id, kind, subject, detail, remedy, created_at)"
            " VALUES (:id, :kind, :subject, :detail, :remedy, :at)"
            " ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO NOTHING",
            id=new_id(),
            kind=kind,
            subject=subject,
            detail=detail,
            remedy=remedy,
            at=at,
        )
        > 0
    )


def resolve_conflicts(db: Db, kind: str, subject: str, at: float) -> int:
    return db.execute(
        "UPDATE conflicts SET resolved_at = :at WHERE kind = :kind AND subject = :subject AND resolved_at IS NULL",
        kind=kind,
        subject=subject,
        at=at,
    )


def conflicts(db: Db) -> list[Conflict]:
    rows = db.all("SELECT * FROM conflicts WHERE resolved_at IS NULL ORDER BY created_at, id")
    return [
        Conflict(row["id"], row["kind"], row["subject"], row["detail"], row["remedy"], row["created_at"])
        for row in rows
    ]
