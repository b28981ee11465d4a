"""Keys that idsync makes: which one is in its sink, which is being made, which is to end. Never a secret.

what happens                                   | the rows
-----------------------------------------------+------------------------------------------------------------
a key is to be made                            | undelivered: the alias it will have, before the gateway is asked
the gateway has answered                       | undelivered: its id, and that the sink may have it from now on
the sink has taken it                          | team: this key; ending: the one before; undelivered: gone
that one is read back as gone                  | ending: gone
a life that ended in between                   | undelivered: found by its alias, ended, gone
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from idsync.store.db import Db, Row


@dataclass(frozen=True)
class TeamKey:
    """A key of a team. Times are epoch seconds; `made_at` 0: it was taken over; `key_id` None: none was delivered yet.

    `sink` is the one that has it, None for a key that was taken over.
    """

    alias: str
    team: str
    key_id: str | None = None
    sink: str | None = None
    name: str | None = None
    made_at: float = 0.0
    delivered_at: float | None = None
    expires_at: float | None = None
    rotate_at: float | None = None
    served: tuple[str, ...] = ()
    asked_at: float | None = None
    asked_by: str | None = None
    compromised: bool = False
    attempts: int = 0
    error: str | None = None
    failing_since: float | None = None
    next_try_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody asked for a rotation that is still to be done."""
        return self.asked_at is not None


@dataclass(frozen=True)
class Undelivered:
    """A key that nobody has for sure. `offered`: its sink may have taken it."""

    called: str
    alias: str
    owner: str | None
    key_id: str | None
    offered: bool
    made_at: float


@dataclass(frozen=True)
class Ending:
    """A key that was replaced, and when its grace is over."""

    key_id: str
    alias: str
    why: str
    end_at: float


# -- keys of teams ------------------------------------------------------------------------------------------------


def every(db: Db) -> list[TeamKey]:
    return [_team_key(row) for row in db.all("SELECT * FROM team_keys ORDER BY alias")]


def get(db: Db, alias: str) -> TeamKey | None:
    row = db.one("SELECT * FROM team_keys WHERE alias = :alias", alias=alias)
    return _team_key(row) if row is not None else None


def put(db: Db, key: TeamKey) -> None:
    """Write a key as it is now."""
    db.execute(
        "INSERT INTO team_keys (alias, team, key_id, sink, name, made_at, delivered_at, expires_at, rotate_at, served, asked_at,"
        " asked_by, compromised, attempts, error, failing_since, next_try_at) VALUES (:alias, :team, :key_id, :sink, :name,"
        " :made_at, :delivered_at, :expires_at, :rotate_at, :served, :asked_at, :asked_by, :compromised, :attempts, :error,"
        " :failing_since, :next_try_at) ON CONFLICT (alias) DO UPDATE SET team = excluded.team, key_id = excluded.key_id,"
        " sink = excluded.sink,"
        " name = excluded.name, made_at = excluded.made_at, delivered_at = excluded.delivered_at,"
        " expires_at = excluded.expires_at, rotate_at = excluded.rotate_at, served = excluded.served,"
        " asked_at = excluded.asked_at,"
        " asked_by = excluded.asked_by, compromised = excluded.compromised, attempts = excluded.attempts,"
        " error = excluded.error, failing_since = excluded.failing_since, next_try_at = excluded.next_try_at",
        **{**vars(key), "compromised": int(key.compromised), "served": json.dumps(key.served)},
    )


def made(db: Db) -> dict[str, float]:
    """Return when each key was made that idsync has made, by its id: delivered or not."""
    rows = [*db.all("SELECT key_id, made_at FROM team_keys WHERE key_id IS NOT NULL")]
    rows += db.all("SELECT key_id, made_at FROM undelivered_keys WHERE key_id IS NOT NULL")
    return {row["key_id"]: row["made_at"] for row in rows}


# -- keys that are being made ---------------------------------------------------------------------------------------


def begin(db: Db, key: Undelivered) -> None:
    """Write down that a key is going to be made."""
    db.execute(
        "INSERT INTO undelivered_keys (called, alias, owner, key_id, offered, made_at)"
        " VALUES (:called, :alias, :owner, :key_id, :offered, :made_at)",
        **{**vars(key), "offered": int(key.offered)},
    )


def put_back(db: Db, key: Undelivered) -> None:
    """Write down anew that a sink may have a key, if that was forgotten meanwhile."""
    db.execute(
        "INSERT INTO undelivered_keys (called, alias, owner, key_id, offered, made_at)"
        " VALUES (:called, :alias, :owner, :key_id, 1, :made_at) ON CONFLICT (called) DO NOTHING",
        **{name: value for name, value in vars(key).items() if name != "offered"},
    )


def offer(db: Db, called: str, key_id: str) -> None:
    """Write down which key it is; from now on its sink may have it."""
    db.execute(
        "UPDATE undelivered_keys SET key_id = :key_id, offered = 1 WHERE called = :called", called=called, key_id=key_id
    )


def end(db: Db, called: str) -> None:
    """Forget that a key was being made: it is delivered, or dead."""
    db.execute("DELETE FROM undelivered_keys WHERE called = :called", called=called)


def undelivered(db: Db) -> list[Undelivered]:
    return [
        Undelivered(row["called"], row["alias"], row["owner"], row["key_id"], bool(row["offered"]), row["made_at"])
        for row in db.all("SELECT * FROM undelivered_keys ORDER BY made_at, called")
    ]


def offered(db: Db) -> frozenset[str]:
    """Return the keys of teams whose sinks may have one that nobody confirmed."""
    return frozenset(key.alias for key in undelivered(db) if key.offered and key.owner is None)


# -- keys that are to end -------------------------------------------------------------------------------------------


def replace(db: Db, key: Ending) -> None:
    """Write down that a key is to end; of two times the earlier one counts."""
    db.execute(
        "INSERT INTO ending_keys (key_id, alias, why, end_at) VALUES (:key_id, :alias, :why, :end_at)"
        " ON CONFLICT (key_id) DO UPDATE SET why = excluded.why,"
        " end_at = CASE WHEN ending_keys.end_at < excluded.end_at THEN ending_keys.end_at ELSE excluded.end_at END",
        **vars(key),
    )


def hasten(db: Db, alias: str, why: str, at: float) -> None:
    """Let no grace be left for what this key has replaced."""
    sql = "UPDATE ending_keys SET end_at = :at, why = :why WHERE alias = :alias AND end_at > :at"
    db.execute(sql, alias=alias, why=why, at=at)


def ended(db: Db, key_id: str) -> None:
    db.execute("DELETE FROM ending_keys WHERE key_id = :key_id", key_id=key_id)


def ending(db: Db) -> list[Ending]:
    rows = db.all("SELECT * FROM ending_keys ORDER BY end_at, key_id")
    return [Ending(row["key_id"], row["alias"], row["why"], row["end_at"]) for row in rows]


def _team_key(row: Row) -> TeamKey:
    values = {name: row[name] for name in TeamKey.__dataclass_fields__}
    served = tuple(json.loads(values["served"]))
    return TeamKey(**{**values, "compromised": bool(values["compromised"]), "served": served})
