"""Keys that somebody who left may still know, and which of what they left was counted already.

what happens                                  | what becomes of it
----------------------------------------------+----------------------------------------------------------------
a team is lost                                | its shared keys are to be counted
a departure is fenced, or at least blocked    | so are those of every team they were in, and what they made
counted                                       | never again: a key that shows later is a rotated one
the key is gone                               | its rows go
back in the team                              | the rows of that team go, and it is counted anew at the next loss
back after a departure                        | the rows of what they made go
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from idsync.store import facts
from idsync.store.db import Db, Row

Kind = Literal["team", "account", "departure"]
Subject = tuple[Kind, str]
"""What keys are counted by: a team of the gateway, or an account that made some."""
Why = Literal["created_by", "service_account", "shared"]
Wants = Literal["report", "rotate"]


@dataclass(frozen=True)
class Exposed:
    """A key that works on, and why a person who left may know it. Times are epoch seconds; None: not told."""

    key_id: str
    person_id: str
    why: Why
    departure_id: str | None
    team_id: str | None
    team: str | None
    owner: str | None
    alias: str | None
    name: str | None
    last_used_at: float | None
    spend: float | None
    wants: Wants
    left_at: float
    noted_at: float


@dataclass(frozen=True)
class Left:
    """A team that somebody has left who is still here."""

    person_id: str
    team_id: str
    left_at: float


# -- what was left ------------------------------------------------------------------------------------------------


def left_team(db: Db, person_id: str, team: str, at: float) -> None:
    """Note that a configured team is being left; only the first time counts until they are back in it."""
    team_id = facts.get(db, f"team:{team}")
    if team_id is None:  # not set up at the gateway, so nobody was ever in it
        return
    db.execute(
        "INSERT INTO left_behind (person_id, kind, subject, team, left_at) VALUES (:person, 'team', :id, :team, :at)"
        " ON CONFLICT (person_id, kind, subject) DO NOTHING",
        person=person_id,
        id=str(team_id),
        team=team,
        at=at,
    )


def is_given(db: Db, person_id: str, team: str) -> None:
    """Forget that a configured team was left: they have it (again), and may know its keys."""
    sql = "DELETE FROM left_behind WHERE person_id = :person AND kind = 'team' AND team = :team RETURNING subject"
    for row in db.all(sql, person=person_id, team=team):
        _drop_team(db, person_id, row["subject"])


def is_in(db: Db, person_id: str, team_id: str) -> None:
    """Forget that a team was left: the gateway shows them in it."""
    db.execute(
        "DELETE FROM left_behind WHERE person_id = :person AND kind = 'team' AND subject = :team",
        person=person_id,
        team=team_id,
    )
    _drop_team(db, person_id, team_id)


def _drop_team(db: Db, person_id: str, team_id: str) -> None:
    db.execute(
        "DELETE FROM exposed_keys WHERE person_id = :person AND team_id = :team AND why <> 'created_by'",
        person=person_id,
        team=team_id,
    )


def came_back(db: Db, person_id: str) -> None:
    """Forget what a departure left behind; teams they left stay left until they are in them again.

    A team that is still being left is counted anew: they can learn its keys until they are out of it.
    """
    db.execute("DELETE FROM left_behind WHERE person_id = :person AND kind <> 'team'", person=person_id)
    db.execute("DELETE FROM exposed_keys WHERE person_id = :person AND why = 'created_by'", person=person_id)
    db.execute("UPDATE exposed_keys SET departure_id = NULL WHERE person_id = :person", person=person_id)
    db.execute(
        "UPDATE left_behind SET counted_at = NULL WHERE person_id = :person AND kind = 'team' AND team IN"
        " (SELECT team FROM grants WHERE person_id = :person AND state = 'leaving')",
        person=person_id,
    )


def movers(db: Db) -> list[Left]:
    """Return the teams that people who are here have left for good, and that were not counted yet."""
    return _left(db, "m.counted_at IS NULL")


def moved(db: Db) -> list[Left]:
    """Return those that were counted, and that they might be in again."""
    return _left(db, "m.counted_at IS NOT NULL")


def _left(db: Db, which: str) -> list[Left]:
    rows = db.all(
        f"SELECT m.person_id, m.subject, m.left_at FROM left_behind m WHERE m.kind = 'team' AND {which}"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM departures d WHERE d.person_id = m.person_id AND d.closed_at IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.person_id = m.person_id AND g.team = m.team"
        " AND g.state IN ('granted', 'leaving'))"
        " ORDER BY m.person_id, m.subject"
    )
    return [Left(row["person_id"], row["subject"], row["left_at"]) for row in rows]


def leavers(db: Db) -> list[str]:
    """Return the open departures that have ended access and are not counted for good."""
    rows = db.all(
        "SELECT d.id FROM departures d LEFT JOIN left_behind m"
        " ON m.person_id = d.person_id AND m.kind = 'departure' AND m.subject = d.id"
        " WHERE d.closed_at IS NULL AND COALESCE(d.fenced_at, d.blocked_at, d.deleted_at, d.verified_at) IS NOT NULL"
        " AND NOT (d.state = 'settled' AND COALESCE(m.counted_at >= d.settled_at, 1 = 0)) ORDER BY d.id"
    )
    return [row["id"] for row in rows]


def teams_left(db: Db, person_id: str) -> frozenset[str]:
    return frozenset(subject for kind, subject in _subjects(db, person_id, "") if kind == "team")


def counted(db: Db, person_id: str) -> frozenset[Subject]:
    """Return what of a person's is not to be counted again."""
    return _subjects(db, person_id, " AND counted_at IS NOT NULL")


def _subjects(db: Db, person_id: str, which: str) -> frozenset[Subject]:
    rows = db.all(f"SELECT kind, subject FROM left_behind WHERE person_id = :person{which}", person=person_id)  # noqa: S608
    return frozenset((_kind(row["kind"]), row["subject"]) for row in rows)


def _kind(text: str) -> Kind:
    return next(kind for kind in get_args(Kind) if kind == text)


def is_left(db: Db, person_id: str, team_id: str, at: float) -> bool:
    """Tell whether a team is still left since exactly then."""
    row = db.one(
        "SELECT 1 AS yes FROM left_behind WHERE person_id = :person AND kind = 'team' AND subject = :team AND left_at = :at",
        person=person_id,
        team=team_id,
        at=at,
    )
    return row is not None


def mark_counted(db: Db, person_id: str, subject: Subject, left_at: float, at: float) -> None:
    db.execute(
        "INSERT INTO left_behind (person_id, kind, subject, left_at, counted_at)"
        " VALUES (:person, :kind, :subject, :left_at, :at)"
        " ON CONFLICT (person_id, kind, subject) DO UPDATE SET counted_at = excluded.counted_at",
        person=person_id,
        kind=subject[0],
        subject=subject[1],
        left_at=left_at,
        at=at,
    )


# -- the keys -----------------------------------------------------------------------------------------------------


def put(db: Db, key: Exposed) -> bool:
    """Note a key; False when that was known."""
    return (
        db.execute(
            "INSERT INTO exposed_keys (key_id, person_id, why, departure_id, team_id, team, owner, alias, name,"
            " last_used_at, spend, wants, left_at, noted_at) VALUES (:key, :person, :why, :departure, :team_id, :team,"
            " :owner, :alias, :name, :used, :spend, :wants, :left_at, :noted_at)"
            " ON CONFLICT (key_id, person_id, why) DO NOTHING",
            person=key.person_id,
            why=key.why,
            departure=key.departure_id,
            left_at=key.left_at,
            noted_at=key.noted_at,
            **_as_shown(key),
        )
        > 0
    )


def refresh(db: Db, key: Exposed) -> None:
    """Write down how the gateway shows a key now, for everybody who may know it."""
    db.execute(
        "UPDATE exposed_keys SET team_id = :team_id, team = :team, owner = :owner, alias = :alias, name = :name,"
        " last_used_at = :used, spend = :spend, wants = :wants WHERE key_id = :key",
        **_as_shown(key),
    )


def _as_shown(key: Exposed) -> dict[str, Any]:
    """Return what the gateway says of a key, whoever may know it."""
    return {
        "key": key.key_id,
        "team_id": key.team_id,
        "team": key.team,
        "owner": key.owner,
        "alias": key.alias,
        "name": key.name,
        "used": key.last_used_at,
        "spend": key.spend,
        "wants": key.wants,
    }


def gone(db: Db, key_id: str, before: float) -> None:
    """Drop a key that a listing did not have which began at `before`; what was noted since was not its to know."""
    db.execute("DELETE FROM exposed_keys WHERE key_id = :key AND noted_at < :before", key=key_id, before=before)


def every(db: Db) -> list[Exposed]:
    """Return all rows, a key as often as there are people and reasons."""
    return [_exposed(row) for row in db.all("SELECT * FROM exposed_keys ORDER BY left_at, person_id, key_id, why")]


def listed(db: Db, person_id: str | None = None) -> list[Exposed]:
    """Return each key once for everybody who may know it, who left first first; of two reasons the surer one."""
    where = "" if person_id is None else " WHERE person_id = :person"
    order = "ORDER BY left_at, person_id, COALESCE(team, team_id, ''), COALESCE(alias, name, key_id), key_id, why"
    rows = db.all(f"SELECT * FROM exposed_keys{where} {order}", **({} if person_id is None else {"person": person_id}))  # noqa: S608
    found: dict[tuple[str, str], Exposed] = {}
    for key in map(_exposed, rows):
        found.setdefault((key.key_id, key.person_id), key)
    return list(found.values())


def tally(db: Db) -> dict[Wants, int]:
    """Count the keys, each once, by what the configuration wants for them."""
    rows = db.all("SELECT wants, COUNT(DISTINCT key_id) AS n FROM exposed_keys GROUP BY wants")
    found = {row["wants"]: int(row["n"]) for row in rows}
    return {wants: found.get(wants, 0) for wants in get_args(Wants)}


def _exposed(row: Row) -> Exposed:
    return Exposed(
        key_id=row["key_id"],
        person_id=row["person_id"],
        why=row["why"],
        departure_id=row["departure_id"],
        team_id=row["team_id"],
        team=row["team"],
        owner=row["owner"],
        alias=row["alias"],
        name=row["name"],
        last_used_at=row["last_used_at"],
        spend=row["spend"],
        wants=row["wants"],
        left_at=row["left_at"],
        noted_at=row["noted_at"],
    )
