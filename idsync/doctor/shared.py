"""A database that several processes share: what it is, how it is set, its clock, who is there and who leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from idsync.doctor.check import Check
from idsync.errors import StoreError
from idsync.store.opening import needs_psycopg
from idsync.store.replicas import COMMAND, UNLINKED_LATE
from idsync.words import count

if TYPE_CHECKING:
    from idsync.store.postgres_look import Look

SKEW = 5.0
"""Seconds by which the database's clock and this machine's may differ; idsync goes by the database's."""
FAR = 60.0
"""Seconds from which what this machine signs, and what it says to identity providers, is refused."""
NOBODY = "look at `idsync serve` on each host: one with the role all or worker has to run"


def shared(url: str, password: Callable[[], str] | None) -> list[Check]:
    """Look at a shared database as `idsync serve` would find it."""
    try:
        with needs_psycopg():
            from idsync.store.postgres_look import look
        seen = look(url, password)
    except StoreError as error:
        return [Check("store", False, str(error), {}, "is the server up, and may this user log in from here?")]
    return [*_server(seen), *_schema(seen), _clock(seen), *_pooler(seen), *_replicas(seen), *_trail(seen)]


def _server(seen: Look) -> Iterator[Check]:
    more = {"version": seen.version, "settings": dict(seen.settings), "encrypted": seen.encrypted}
    for problem in seen.problems:
        said, _, remedy = problem.rpartition("; ")
        yield Check("store", False, said or problem, more, remedy if said else "")
    if not seen.problems:
        kept = ", ".join(f"{name} {seen.settings[name]}" for name in ("synchronous_commit", "fsync"))
        yield Check("store", True, f"PostgreSQL {seen.version}; {kept}", more)
    if not seen.encrypted and not seen.local:
        says = "the connection to the database is not encrypted: names, e-mails and token hashes pass in the clear"
        yield Check("store", None, says, {}, "append ?sslmode=verify-full&sslrootcert=FILE to store.url")


def _schema(seen: Look) -> Iterator[Check]:
    if seen.counts is None and not seen.newer:
        yield Check("schema", None, "there is no store in the database yet; the first start makes it")
    elif seen.missing:
        says = f"of an older release; the next start upgrades it by {len(seen.missing)} ({', '.join(seen.missing)})"
        yield Check("schema", None, says, {"missing": list(seen.missing)}, "make a backup first: pg_dump")
    elif seen.newer:
        says = f"of a newer release ({', '.join(seen.newer)}): an upgrade is under way, or this machine was left out"
        yield Check("schema", None, says, {"newer": list(seen.newer)}, "install that release here too")
    else:
        yield Check("schema", True, "is this release's")


def _clock(seen: Look) -> Check:
    off = abs(seen.ahead)
    more = {"database_ahead_seconds": round(seen.ahead, 3)}
    if off <= SKEW:
        return Check("store clock", True, "the database's clock and ours agree", more)
    says = f"the database's clock is {off:.0f} s {'ahead of' if seen.ahead > 0 else 'behind'} ours; idsync goes by it"
    return Check(
        "store clock", False if off > FAR else None, says, more, "let both machines follow a time server (NTP)"
    )


def _pooler(seen: Look) -> Iterator[Check]:
    if seen.pooled:
        says = "a pooler stands between: session or transaction mode, and idle_transaction_timeout 0 or over 60 s"
        yield Check("pooler", None, says, {"pooled": True})


def _replicas(seen: Look) -> Iterator[Check]:
    serving = [one for one in seen.replicas if one.role != COMMAND]
    more = {
        "replicas": [{"host": one.host, "role": one.role, "release": one.release} for one in serving],
        "leader": next((one.host for one in seen.replicas if one.id == seen.leader), None),
    }
    if not serving:
        yield Check("replicas", None, "no `idsync serve` uses the database now", more)
        return
    told = ", ".join(f"{one.host} ({one.role})" for one in serving)
    if seen.leader is None:
        yield Check("replicas", False, f"{told}; nobody leads: no polls, sweeps or full passes", more, NOBODY)
    else:
        yield Check("replicas", True, f"{told}; {more['leader'] or seen.leader} leads", more)
    releases = sorted({one.release for one in serving})
    if len(releases) > 1:
        says = f"of several releases: {', '.join(releases)}"
        yield Check("replicas", None, says, {"releases": releases}, "end the upgrade: replace those of the older one")


def _trail(seen: Look) -> Iterator[Check]:
    if seen.counts is None:
        return
    waiting, since = seen.tail.entries, seen.unlinked_for
    more = {"unlinked": waiting, "unlinked_seconds": round(since, 1)}
    says = f"{count(waiting, 'audit entry is', 'audit entries are')} committed and not linked into the chain yet"
    if since <= UNLINKED_LATE:
        yield Check("audit", True, says if waiting else "every audit entry is linked into the chain", more)
        return
    running = any(one.role != COMMAND for one in seen.replicas)
    remedy = (
        "look at the log of every `idsync serve` for store errors" if running else "start `idsync serve`: it links them"
    )
    yield Check("audit", False if running else None, f"{says}, the oldest for {since:.0f} s", more, remedy)
