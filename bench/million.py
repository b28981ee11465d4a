"""The layout for a million users at a tenth of it: PostgreSQL filled through intake, what it takes, and how it answers.

First a fiftieth is filled, from which the size of the whole is worked out; then the tenth, which checks that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import psycopg

from bench.leavers import join
from bench.load import Loader, Stream
from bench.postgres import database, postgres
from bench.replicas import FIRST
from bench.report import Report
from bench.stage import CLIENTS, Bench, active, patch, person, staged
from idsync.clock import SystemClock
from idsync.intake import Intake
from idsync.model import GroupFacts, Origin, UserFacts
from idsync.policy import Rules
from idsync.store.db import Db, Store
from idsync.store.opening import store_of

GATEWAY = 0.005
TOGETHER = 500
"""People whose records share a transaction while the store is filled."""
GROUPS_EACH = 3
"""Groups that everybody is in; none of them gives access."""
IN_GROUP = 1_000
"""People in one of those groups."""
WHOLE = 1_000_000
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
SIZES = """
SELECT relname, pg_total_relation_size(relid) AS bytes FROM pg_catalog.pg_statio_user_tables
ORDER BY bytes DESC
"""


def million(load: Loader, report: Report, *, first: int, whole: int, leavers: int, seconds: float) -> None:
    with postgres() as server:
        url = database(server, "bench_million")
        with staged(load, latency=GATEWAY, store=url) as bench:
            print(
                f"{whole:,} users in one source, {GROUPS_EACH} groups each, on PostgreSQL; one replica, all on this machine"
            )
            ids = join(bench, leavers)
            empty = sizes(url)
            with closing(store_of(url, role="command")) as store:
                store.open()
                filled = fill(store, report, range(first))
                small = sizes(url)
                predicted = _print_sizes(report, empty, small, first, f"worked out from {first:,} users")
                filled += fill(store, report, range(first, whole))
            found = _print_sizes(report, empty, sizes(url), whole, f"worked out from {whole:,} users")
            report.single("million", "the second figure, times the first", found / predicted, "x")
            _requests(bench, report, filled, seconds)
            _leavers(bench, report, ids)


# -- filling ----------------------------------------------------------------------------------------------------------


def fill(store: Store, report: Report, numbers: range) -> list[str]:
    """Take in people and their memberships as pushes would, many in a transaction; return their ids."""
    intake, began = Intake(Rules(idp_of={"bench": "bench"}), SystemClock()), time.monotonic()
    ids: list[str] = []
    for start in range(numbers.start, numbers.stop, TOGETHER):
        chunk = range(start, min(start + TOGETHER, numbers.stop))
        ids += store.write(lambda db, chunk=chunk: [_create(db, intake, number) for number in chunk])
    for start in range(0, len(ids), IN_GROUP):
        members = ids[start : start + IN_GROUP]
        for kind in range(GROUPS_EACH):
            name = f"Unit {kind}-{numbers.start + start:07}"
            store.write(lambda db, name=name, members=members: _group(db, intake, name, members))
    rows = len(ids) * (1 + GROUPS_EACH)
    report.single(
        "million", f"{len(ids):,} users and their memberships, rows a second", rows / (time.monotonic() - began), ""
    )
    return ids


def _origin() -> Origin:
    return Origin("bench", "bench", time.time())


def _create(db: Db, intake: Intake, number: int) -> str:
    doc = employee(FIRST + number)
    facts = UserFacts(doc["userName"], doc["externalId"], True, doc["userName"], doc["displayName"], doc)
    return intake.create_user(db, facts, _origin()).id


def _group(db: Db, intake: Intake, name: str, members: Sequence[str]) -> None:
    facts = GroupFacts(name, None, {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name})
    intake.create_group(db, facts, members, _origin())


def employee(number: int) -> dict[str, Any]:
    """Return a person with what Entra usually sends of one."""
    return person(
        number,
        displayName=f"User {number}",
        title="Engineer",
        phoneNumbers=[{"type": "work", "value": f"+1 555 {number:07}"}],
        addresses=[{"type": "work", "locality": "Springfield", "country": "US"}],
        preferredLanguage="en-US",
        **{ENTERPRISE: {"department": f"Department {number % 97}", "employeeNumber": str(number)}},
    )


# -- sizes ------------------------------------------------------------------------------------------------------------


def sizes(url: str) -> dict[str, tuple[int, int]]:
    """Return rows and bytes, with indexes, of every table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        found = connection.execute(SIZES).fetchall()
        return {name: (_rows(connection, name), size) for name, size in found}


def _rows(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute(f"SELECT COUNT(*) FROM {table}".encode()).fetchone()  # noqa: S608 - a table of ours
    return int(row[0]) if row else 0


def _print_sizes(
    report: Report, empty: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]], users: int, how: str
) -> float:
    """Print what the users have added, table by table; return what a million would take, in GiB."""
    print(f"\n  {'table':28}{'rows':>12}{'rows a user':>13}{'bytes a row':>13}{'bytes a user':>14}")
    total = 0
    for table, (rows, size) in now.items():
        more_rows, more = rows - empty[table][0], size - empty[table][1]
        if more_rows <= users // 100:
            continue
        total += more
        print(f"  {table:28}{more_rows:12,}{more_rows / users:13.2f}{more / more_rows:13.0f}{more / users:14.0f}")
        report.keep("million", f"{table} at {users}", rows=more_rows, bytes=more)
    whole: float = total * WHOLE / users / 2**30
    report.single("million", f"{WHOLE:,} users, GiB, {how}", whole, "")
    return whole


# -- requests ---------------------------------------------------------------------------------------------------------


def _requests(bench: Bench, report: Report, ids: Sequence[str], seconds: float) -> None:
    for clients in (1, CLIENTS):
        print(f"\n  {clients} client(s), {len(ids):,} users")
        for what, requests in _kinds(bench, ids):
            result = bench.loader.run(Stream(bench.scim.port, list(requests), clients, seconds=seconds))[0]
            report.times("million", f"{what}, {result.rate:,.0f} a second", result.took)
            report.failures("million", f"{what}: errors", result.errors)


def _kinds(bench: Bench, ids: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield operations, each on people from everywhere in the directory."""
    scim, step = bench.scim, 7919
    spread = [(at * step) % len(ids) for at in range(20_000)]
    yield "GET", (scim.encode("GET", f"/Users/{ids[at]}") for at in spread)
    name = "/Users?filter=userName%20eq%20%22u{}@example.com%22"
    yield "userName eq", (scim.encode("GET", name.format(FIRST + at)) for at in spread)
    external = "/Users?filter=externalId%20eq%20%2200u{:08}%22"
    yield "externalId eq", (scim.encode("GET", external.format(FIRST + at)) for at in spread)
    unit = scim.ask("GET", "/Groups?filter=displayName%20eq%20%22Unit%200-0000000%22&excludedAttributes=members")
    group = unit["Resources"][0]["id"]
    title = ((at, patch("replace", path="title", value=f"T{number}")) for number, at in enumerate(spread))
    yield "PATCH of an attribute", (scim.encode("PATCH", f"/Users/{ids[at]}", body) for at, body in title)
    join = ((at, patch("add", path="members", value=[{"value": ids[at]}])) for at in spread[:4000])
    yield f"a member into {IN_GROUP:,}", (scim.encode("PATCH", f"/Groups/{group}", body) for _, body in join)


def _leavers(bench: Bench, report: Report, ids: Sequence[str]) -> None:
    """People with three keys and two teams leave one at a time."""
    print(f"\n  {len(ids)} leavers, one after the other; 3 keys and 2 teams each")
    requests = [bench.scim.encode("PATCH", f"/Users/{one}", active(False)) for one in ids]
    bench.loader.run(Stream(bench.scim.port, requests, 1, rate=4.0))
    done = bench.departures(len(ids))
    for stage in ("fenced", "blocked", "verified"):
        took = [getattr(one, f"{stage}_at") - one.received_at for one in done]
        report.times("million", f"request received -> {stage}", took)
    print()
