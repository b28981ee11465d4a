"""Bearer tokens, as SHA-256 only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from idsync.store.db import Db, Row

REREAD = 2.0
"""Seconds after which the tokens are read again: `idsync token` and other replicas may run beside a process."""


@dataclass(frozen=True)
class TokenRow:
    """A token without its secret. `kind` is "source" or "operator", `digest` the SHA-256 in hex."""

    id: str
    kind: str
    name: str
    scope: str
    digest: str
    created_at: float
    used_at: float | None
    revoked_at: float | None
    expires_at: float | None

    def state(self, now: float) -> Literal["live", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"


def _token(row: Row) -> TokenRow:
    return TokenRow(
        row["id"],
        row["kind"],
        row["name"],
        row["scope"],
        row["digest"],
        row["created_at"],
        row["used_at"],
        row["revoked_at"],
        row["expires_at"],
    )


def live_tokens(db: Db) -> list[TokenRow]:
    """Return the tokens nobody has revoked; some may have expired since."""
    rows = db.all("SELECT * FROM tokens WHERE revoked_at IS NULL ORDER BY created_at, id")
    return [_token(row) for row in rows]


def all_tokens(db: Db) -> list[TokenRow]:
    return [_token(row) for row in db.all("SELECT * FROM tokens ORDER BY created_at, id")]


def put_token(
    db: Db, *, id: str, kind: str, name: str, scope: str, digest: str, at: float, expires_at: float | None = None
) -> None:
    """Make a token live, whether it was here before (a file may bring one back) or not."""
    db.execute(
        "INSERT INTO tokens (id, kind, name, scope, digest, created_at, expires_at)"
        " VALUES (:id, :kind, :name, :scope, :digest, :at, :expires)"
        " ON CONFLICT (digest) DO UPDATE SET revoked_at = NULL, name = excluded.name, kind = excluded.kind,"
        " expires_at = excluded.expires_at",
        id=id,
        kind=kind,
        name=name,
        scope=scope,
        digest=digest,
        at=at,
        expires=expires_at,
    )


def revoke_token(db: Db, token_id: str, at: float) -> bool:
    """Mark a token as dead; False when there is no live one of that id."""
    changed = db.execute("UPDATE tokens SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL", id=token_id, at=at)
    return changed > 0


def touch_token(db: Db, token_id: str, at: float) -> None:
    db.execute("UPDATE tokens SET used_at = :at WHERE id = :id", id=token_id, at=at)
