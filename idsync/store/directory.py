"""Users, groups and memberships: what the sources told us. Tombstones stay, but only `*_any` functions see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from idsync.model import Group, Membership, Observation, User, fold
from idsync.store import called
from idsync.store.db import Db, Row

PENDING_FOR = 24 * 3600.0
"""How long an unknown member id waits for its user, in seconds."""


def user_from(row: Row) -> User:
    return User(
        id=row["id"],
        source=row["source"],
        external_id=row["external_id"],
        user_name=row["user_name"],
        active=bool(row["active"]),
        email=row["email"],
        display_name=row["display_name"],
        doc=json.loads(row["doc"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        version=row["version"],
        person_id=row["person_id"],
        observation=Observation(row["observation"]),
        observed_at=row["observed_at"],
        deleted_at=row["deleted_at"],
    )


def group_from(row: Row) -> Group:
    return Group(
        id=row["id"],
        source=row["source"],
        external_id=row["external_id"],
        display_name=row["display_name"],
        doc=json.loads(row["doc"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        version=row["version"],
        deleted_at=row["deleted_at"],
    )


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _of_source(*, narrow: bool) -> str:
    """Return the condition for records of a source; `narrow` keeps its index out of a plan that has a better one.

    Most stores have one large source, so its index finds everybody; without statistics the planner cannot know.
    """
    return f"{'+' if narrow else ''}source = :source AND deleted_at IS NULL"


def _count(db: Db, table: str, source: str, where: str, params: Mapping[str, Any], *, narrow: bool) -> int:
    row = db.one(
        f"SELECT COUNT(*) AS n FROM {table} WHERE {_of_source(narrow=narrow)} AND ({where})",  # noqa: S608
        **params,
        source=source,
    )
    return int(row["n"]) if row else 0


# -- users ------------------------------------------------------------------------------------------------------


def user(db: Db, source: str, user_id: str) -> User | None:
    """Return a live user of this source; another source's id is as good as unknown."""
    row = db.one(
        "SELECT * FROM users WHERE id = :id AND source = :source AND deleted_at IS NULL", id=user_id, source=source
    )
    return user_from(row) if row else None


def user_by_name(db: Db, source: str, user_name: str) -> User | None:
    row = db.one(
        "SELECT * FROM users WHERE source = :source AND user_name_key = :key AND deleted_at IS NULL",
        source=source,
        key=fold(user_name),
    )
    return user_from(row) if row else None


def users_by_external_any(db: Db, sources: Sequence[str], external_id: str) -> list[User]:
    """Return the records of these sources with this immutable id, the newest first, tombstones included."""
    found: list[User] = []
    for source in sources:
        rows = db.all(
            "SELECT * FROM users WHERE source = :source AND external_id = :external ORDER BY updated_at DESC",
            source=source,
            external=external_id,
        )
        found += map(user_from, rows)
    return found


def live_users_by_email(db: Db, email: str) -> list[User]:
    rows = db.all("SELECT * FROM users WHERE email_key = :key AND deleted_at IS NULL", key=fold(email))
    return [user_from(row) for row in rows]


def persons_with_email_any(db: Db, email: str) -> list[str]:
    """Return everybody who ever had this e-mail or userName, whoever has their record now."""
    return called.persons(db, email, "address", "user_name")


def live_users_at(db: Db, email: str) -> list[User]:
    """Return who is here and has this address now: their e-mail, or a userName that looks like one."""
    everybody = [user for person in called.persons(db, email, "address") for user in users_of_person_any(db, person)]
    here = [user for user in everybody if user.active and user.deleted_at is None and user.address is not None]
    return [user for user in here if fold(user.address or "") == fold(email)]


def users_of_person_any(db: Db, person_id: str) -> list[User]:
    """Return every record that was ever linked to a person, oldest first, tombstones included."""
    rows = db.all("SELECT * FROM users WHERE person_id = :person ORDER BY created_at, id", person=person_id)
    return [user_from(row) for row in rows]


def find_users_any(db: Db, text: str) -> list[User]:
    """Find records by userName or e-mail, whatever the letter case, in every source."""
    rows = db.all(
        "SELECT * FROM users WHERE user_name_key = :key OR email_key = :key ORDER BY created_at, id", key=fold(text)
    )
    return [user_from(row) for row in rows]


def count_users(db: Db, source: str, where: str, params: Mapping[str, Any], *, narrow: bool = False) -> int:
    return _count(db, "users", source, where, params, narrow=narrow)


def put_user(db: Db, user: User, *, before: User | None = None) -> None:
    """Insert or replace a user row as a whole. The unique index refuses a second live userName in a source.

    `before` is the row as it was, where that is known: its names need not be kept again.
    """
    db.execute(
        "INSERT INTO users (id, source, external_id, user_name, user_name_key, active, email, email_key, display_name,"
        " display_key, doc, person_id, observation, observed_at, created_at, updated_at, version, deleted_at)"
        " VALUES (:id, :source, :external_id, :user_name, :user_name_key, :active, :email, :email_key, :display_name,"
        " :display_key, :doc, :person_id, :observation, :observed_at, :created_at, :updated_at, :version, :deleted_at)"
        " ON CONFLICT (id) DO UPDATE SET external_id = excluded.external_id, user_name = excluded.user_name,"
        " user_name_key = CASE WHEN users.user_name = excluded.user_name THEN users.user_name_key"
        " ELSE excluded.user_name_key END, active = excluded.active, email = excluded.email,"
        " email_key = excluded.email_key, display_name = excluded.display_name,"
        " display_key = excluded.display_key, doc = excluded.doc,"
        " person_id = excluded.person_id, observation = excluded.observation, observed_at = excluded.observed_at,"
        " updated_at = excluded.updated_at, version = excluded.version, deleted_at = excluded.deleted_at",
        id=user.id,
        source=user.source,
        external_id=user.external_id,
        user_name=user.user_name,
        user_name_key=fold(user.user_name),
        active=int(user.active),
        email=user.email,
        email_key=fold(user.email) if user.email else None,
        display_name=user.display_name,
        display_key=None if user.display_name is None else fold(user.display_name),
        doc=_compact(user.doc),
        person_id=user.person_id,
        observation=user.observation.value,
        observed_at=user.observed_at,
        created_at=user.created_at,
        updated_at=user.updated_at,
        version=user.version,
        deleted_at=user.deleted_at,
    )
    if before is None or called.is_new(user, before):
        called.note_user(db, user, user.updated_at)


def put_emails(db: Db, user_id: str, doc: Mapping[str, Any]) -> None:
    """Keep every address of a user document for filters; `email` of the row is the one that counts for linking."""
    db.execute("DELETE FROM user_emails WHERE user_id = :user", user=user_id)
    values = [entry.get("value") for entry in doc.get("emails") or () if isinstance(entry, dict)]
    for key in sorted({fold(value) for value in values if isinstance(value, str) and value}):
        db.execute("INSERT INTO user_emails (user_id, email_key) VALUES (:user, :key)", user=user_id, key=key)


# -- groups -----------------------------------------------------------------------------------------------------


def group(db: Db, source: str, group_id: str) -> Group | None:
    row = db.one(
        "SELECT * FROM groups WHERE id = :id AND source = :source AND deleted_at IS NULL", id=group_id, source=source
    )
    return group_from(row) if row else None


def group_any(db: Db, group_id: str) -> Group | None:
    """Return a group of any source, also a deleted one."""
    row = db.one("SELECT * FROM groups WHERE id = :id", id=group_id)
    return group_from(row) if row else None


def group_by_name(db: Db, source: str, display_name: str) -> Group | None:
    row = db.one(
        "SELECT * FROM groups WHERE source = :source AND display_key = :key AND deleted_at IS NULL",
        source=source,
        key=fold(display_name),
    )
    return group_from(row) if row else None


def group_by_external(db: Db, source: str, external_id: str) -> Group | None:
    row = db.one(
        "SELECT * FROM groups WHERE source = :source AND external_id = :id AND deleted_at IS NULL",
        source=source,
        id=external_id,
    )
    return group_from(row) if row else None


def groups_called(db: Db, display_name: str) -> list[Group]:
    """Return the live groups of this name, whatever its letter case, in every source."""
    rows = db.all(
        "SELECT * FROM groups WHERE display_key = :key AND deleted_at IS NULL ORDER BY source, id",
        key=fold(display_name),
    )
    return [group_from(row) for row in rows]


def live_groups(db: Db) -> list[Group]:
    rows = db.all("SELECT * FROM groups WHERE deleted_at IS NULL ORDER BY source, created_at, id")
    return [group_from(row) for row in rows]


def count_groups(db: Db, source: str, where: str, params: Mapping[str, Any], *, narrow: bool = False) -> int:
    return _count(db, "groups", source, where, params, narrow=narrow)


def put_group(db: Db, group: Group) -> None:
    """Insert or replace a group row as a whole. The unique index refuses a second live displayName in a source."""
    db.execute(
        "INSERT INTO groups (id, source, external_id, display_name, display_key, doc, created_at, updated_at, version,"
        " deleted_at) VALUES (:id, :source, :external_id, :display_name, :display_key, :doc, :created_at, :updated_at,"
        " :version, :deleted_at) ON CONFLICT (id) DO UPDATE SET external_id = excluded.external_id,"
        " display_key = CASE WHEN groups.display_name = excluded.display_name THEN groups.display_key"
        " ELSE excluded.display_key END, display_name = excluded.display_name, doc = excluded.doc,"
        " updated_at = excluded.updated_at, version = excluded.version, deleted_at = excluded.deleted_at",
        id=group.id,
        source=group.source,
        external_id=group.external_id,
        display_name=group.display_name,
        display_key=fold(group.display_name),
        doc=_compact(group.doc),
        created_at=group.created_at,
        updated_at=group.updated_at,
        version=group.version,
        deleted_at=group.deleted_at,
    )


# -- memberships ------------------------------------------------------------------------------------------------

_MEMBERS = (
    "SELECT m.group_id, m.member_id, m.member_type, COALESCE(u.user_name, g.display_name, '') AS label"
    " FROM memberships m LEFT JOIN users u ON u.id = m.member_id LEFT JOIN groups g ON g.id = m.member_id"
)


def _membership(row: Row) -> Membership:
    return Membership(row["group_id"], row["member_id"], row["member_type"], row["label"])


def members(db: Db, group_id: str) -> list[Membership]:
    rows = db.all(f"{_MEMBERS} WHERE m.group_id = :group ORDER BY m.since, m.member_id", group=group_id)
    return [_membership(row) for row in rows]


def count_members(db: Db, group_id: str) -> int:
    row = db.one("SELECT COUNT(*) AS n FROM memberships WHERE group_id = :group", group=group_id)
    return int(row["n"]) if row else 0


def direct_groups(db: Db, member_id: str) -> list[Group]:
    """Return the groups that list this member themselves."""
    rows = db.all(
        "SELECT g.* FROM memberships m JOIN groups g ON g.id = m.group_id"
        " WHERE m.member_id = :member AND g.deleted_at IS NULL ORDER BY g.created_at, g.id",
        member=member_id,
    )
    return [group_from(row) for row in rows]


def groups_of(db: Db, member_id: str) -> frozenset[str]:
    """Return the ids of every live group a member is in, through nested groups too (a cycle ends itself)."""
    rows = db.all(
        "WITH RECURSIVE up (id) AS (SELECT group_id FROM memberships WHERE member_id = :member"
        " UNION SELECT m.group_id FROM memberships m JOIN up ON m.member_id = up.id)"
        " SELECT up.id FROM up JOIN groups g ON g.id = up.id WHERE g.deleted_at IS NULL",
        member=member_id,
    )
    return frozenset(row["id"] for row in rows)


def persons_under(db: Db, group_id: str) -> list[str]:
    """Return the persons whose records are in a group, through nested groups too, sorted."""
    rows = db.all(
        "WITH RECURSIVE down (id) AS (SELECT member_id FROM memberships WHERE group_id = :group UNION SELECT m.member_id FROM memberships m"
        " JOIN down ON m.group_id = down.id)"
        " SELECT DISTINCT u.person_id FROM down JOIN users u ON u.id = down.id ORDER BY u.person_id",
        group=group_id,
    )
    return [row["person_id"] for row in rows]


def add_member(db: Db, group_id: str, member_id: str, member_type: str, at: float) -> bool:
    """Add one row; False when it was there."""
    return (
        db.execute(
            "INSERT INTO memberships (group_id, member_id, member_type, since) VALUES (:group, :member, :type, :at)"
            " ON CONFLICT (group_id, member_id) DO NOTHING",
            group=group_id,
            member=member_id,
            type=member_type,
            at=at,
        )
        > 0
    )


def remove_member(db: Db, group_id: str, member_id: str) -> bool:
    """Remove one row; False when it was not there."""
    changed = db.execute(
        "DELETE FROM memberships WHERE group_id = :group AND member_id = :member", group=group_id, member=member_id
    )
    return changed > 0


def drop_memberships_of(db: Db, member_id: str) -> list[str]:
    """Remove a member from every group and return those groups."""
    rows = db.all("SELECT group_id FROM memberships WHERE member_id = :member", member=member_id)
    db.execute("DELETE FROM memberships WHERE member_id = :member", member=member_id)
    return [row["group_id"] for row in rows]


def touch_groups(db: Db, group_ids: Sequence[str], at: float) -> None:
    """Raise the version of groups whose members changed through a user (RFC 7644 §3.14)."""
    for group_id in group_ids:
        db.execute(
            "UPDATE groups SET version = version + 1, updated_at = :at WHERE id = :id AND deleted_at IS NULL",
            id=group_id,
            at=at,
        )


def drop_members(db: Db, group_id: str) -> None:
    db.execute("DELETE FROM memberships WHERE group_id = :group", group=group_id)
    db.execute("DELETE FROM pending_members WHERE group_id = :group", group=group_id)


# -- whom a source means by the value of a member ---------------------------------------------------------------------


class Member(NamedTuple):
    """A live user or group of a source; `person_id` is None for a group."""

    id: str
    type: str
    person_id: str | None


def _called(user: str, group: str) -> str:
    """Return the query for the live users and groups of a source of whom these conditions hold."""
    live = "source = :source AND deleted_at IS NULL"
    return (
        f"SELECT id, 'User' AS type, person_id FROM users WHERE {user} AND {live}"  # noqa: S608
        f" UNION ALL SELECT id, 'Group', NULL FROM groups WHERE {group} AND {live}"
    )


_BY_ID = f"{_called('id = :value', 'id = :value')} LIMIT 1"
_BY_NAME = tuple(
    f"SELECT * FROM ({_called(user, group)}) AS called WHERE id <> :group LIMIT 2"  # noqa: S608
    for user, group in (
        ("external_id = :value", "external_id = :value"),
        ("user_name_key = :key", "display_key = :key"),
    )
)
"""What a member may be called beside its id, in this order."""


def find_member(db: Db, source: str, group_id: str, value: str) -> Member | None:
    """Return whom a group of a source lists as `value`: by id, else externalId, else userName or displayName.

    Another source's records are as good as unknown, and a name of two records means neither. A group does not mean
    itself by its own name.
    """
    row = db.one(_BY_ID, source=source, value=value)
    found = [] if row is None else [row]
    for query in _BY_NAME if row is None else ():
        found = found or [*db.all(query, source=source, group=group_id, value=value, key=fold(value))]
    return Member(found[0]["id"], found[0]["type"], found[0]["person_id"]) if len(found) == 1 else None


# -- names nobody has yet -----------------------------------------------------------------------------------------


def add_pending(db: Db, source: str, group_id: str, value: str, at: float) -> None:
    db.execute(
        "INSERT INTO pending_members (source, group_id, value, seen_at) VALUES (:source, :group, :value, :at)"
        " ON CONFLICT (group_id, value) DO UPDATE SET seen_at = excluded.seen_at",
        source=source,
        group=group_id,
        value=value,
        at=at,
    )


def remove_pending(db: Db, group_id: str, value: str) -> None:
    db.execute("DELETE FROM pending_members WHERE group_id = :group AND value = :value", group=group_id, value=value)


def clear_pending(db: Db, group_id: str) -> None:
    db.execute("DELETE FROM pending_members WHERE group_id = :group", group=group_id)


def take_pending(db: Db, source: str, member_id: str, names: Sequence[str], now: float) -> list[str]:
    """Return and forget the groups that waited for one of these names, now that it means this record.

    What has waited too long is dropped.
    """
    db.execute("DELETE FROM pending_members WHERE seen_at < :old", old=now - PENDING_FOR)
    values = {f"v{number}": name for number, name in enumerate(names)}
    rows = db.all(
        "SELECT group_id, value FROM pending_members WHERE source = :source"  # noqa: S608
        f" AND value IN ({', '.join(f':{name}' for name in values)})",
        source=source,
        **values,
    )
    groups: dict[str, None] = {}
    for row in rows:
        meant = find_member(db, source, row["group_id"], row["value"])
        if meant is not None and meant.id == member_id:
            remove_pending(db, row["group_id"], row["value"])
            groups[row["group_id"]] = None
    return list(groups)


def pending_of(db: Db, group_id: str) -> list[str]:
    """Return the ids a group lists that nobody knows yet, sorted."""
    rows = db.all("SELECT value FROM pending_members WHERE group_id = :group ORDER BY value", group=group_id)
    return [row["value"] for row in rows]


def count_pending(db: Db) -> int:
    row = db.one("SELECT COUNT(*) AS n FROM pending_members")
    return int(row["n"]) if row else 0


# -- rows for the SCIM answers that need no model ------------------------------------------------------------------

_TABLES = {"User": "users", "Group": "groups"}
_ROW = "id, doc, created_at, updated_at, version"


def scim_row(db: Db, kind: str, source: str, resource_id: str) -> Row | None:
    """Return a live "User" or "Group" with its document as text."""
    return db.one(
        f"SELECT {_ROW} FROM {_TABLES[kind]} WHERE id = :id AND source = :source AND deleted_at IS NULL",  # noqa: S608
        id=resource_id,
        source=source,
    )


def scim_page(
    db: Db,
    kind: str,
    source: str,
    where: str,
    params: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    order: str = "created_at, id",
    narrow: bool = False,
) -> Sequence[Row]:
    """Return a page of live rows with their documents as text; `where` and `order` are made by `scim.sql`.

    `narrow` says that the condition finds few rows by an index of its own.
    """
    table = _TABLES[kind]
    return db.all(
        f"SELECT {_ROW} FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {_of_source(narrow=narrow)}"  # noqa: S608
        f" AND ({where}) ORDER BY {order} LIMIT :limit OFFSET :offset) ORDER BY {order}",
        **params,
        source=source,
        limit=limit,
        offset=offset,
    )


def scim_keys(db: Db, kind: str, resource_id: str, keys: Sequence[str]) -> Sequence[Any]:
    """Return the values of SQL expressions (made by `scim.sql`) of one row."""
    named = ", ".join(f"{key} AS k{number}" for number, key in enumerate(keys))
    row = db.one(f"SELECT {named} FROM {_TABLES[kind]} WHERE id = :id", id=resource_id)  # noqa: S608
    return [row[f"k{number}"] for number in range(len(keys))] if row else []


def scim_members(db: Db, group_id: str) -> Sequence[Row]:
    """Return the members of a group as rows of member_id and member_type, in their order."""
    return db.all(
        "SELECT member_id, member_type FROM memberships WHERE group_id = :group ORDER BY since, member_id",
        group=group_id,
    )


def has_more_members_than(db: Db, group_id: str, number: int) -> bool:
    """Tell whether a group has more than so many members without counting them all."""
    found = db.one(
        "SELECT 1 AS found FROM memberships WHERE group_id = :group LIMIT 1 OFFSET :number",
        group=group_id,
        number=number,
    )
    return found is not None


def group_names_of(db: Db, member_ids: Sequence[str]) -> dict[str, list[tuple[str, str, bool]]]:
    """Return, by member, the live groups it is in: id, displayName, and whether the group lists it itself."""
    found: dict[str, dict[str, tuple[str, str, bool]]] = {}
    if not member_ids:
        return {}
    names = {f"m{number}": member for number, member in enumerate(member_ids)}
    rows = db.all(
        "WITH RECURSIVE up (member_id, id, direct) AS ("  # noqa: S608
        f"SELECT member_id, group_id, 1 FROM memberships WHERE member_id IN ({', '.join(f':{name}' for name in names)})"
        " UNION SELECT up.member_id, m.group_id, 0 FROM memberships m JOIN up ON m.member_id = up.id)"
        " SELECT up.member_id, g.id, g.display_name, up.direct FROM up JOIN groups g ON g.id = up.id"
        " WHERE g.deleted_at IS NULL ORDER BY g.created_at, g.id, up.direct DESC",
        **names,
    )
    for row in rows:
        seen = found.setdefault(row["member_id"], {})
        seen.setdefault(row["id"], (row["id"], row["display_name"], bool(row["direct"])))
    return {member: list(groups.values()) for member, groups in found.items()}
