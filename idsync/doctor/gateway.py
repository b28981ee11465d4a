"""What the gateway is: its verbs and paths, how far the admin key sees, its replicas, and who else writes to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from idsync.clock import epoch_of, new_secret
from idsync.config import Config
from idsync.doctor.check import DAY, Check
from idsync.gateway.client import Gateway
from idsync.gateway.probing import Seen
from idsync.gateway.trial import try_key
from idsync.store import journal, people
from idsync.store.db import Db
from idsync.words import count, to_the_second

NEEDED = frozenset({"/user/info", "/user/list", "/user/new", "/user/update", "/key/list", "/key/delete", "/team/info"})
NEEDED |= {"/team/list", "/team/new", "/team/update", "/team/member_add", "/team/member_delete"}
"""Paths without which somebody could not be granted or revoked."""
SOON = 14 * DAY
"""Seconds before its end at which an admin key that expires is told."""
ADMIN = "proxy_admin"
SAMPLE = 5
"""Accounts that idsync is linked to and that are looked up, to see whether the admin key sees them."""
WEEK = 7 * DAY
COMING_BACK = 3
"""How often something of departed people may have come back in a week before another sync is suspected."""


async def gateway(config: Config, client: Gateway, db: Db | None, now: float) -> list[Check]:
    """Ask the gateway what it is, and every replica whether it refuses a key that never existed."""
    found = await client.probe()
    checks = [*_answers(config, found)]
    if found["admin_key"] == "accepted":
        seen = await client.look()
        checks += [*_scope(config, seen, now), *await _linked(client, db), *_rivals(seen, db, now)]
    return [*checks, *[await _replica(config, url) for url in config.routero.replica_urls]]


def _answers(config: Config, found: Mapping[str, Any]) -> Iterator[Check]:
    where = f"{config.routero.base_url} ({config.routero.dialect})"
    accepted = found["admin_key"] == "accepted"
    says = "answers, and takes the admin key" if accepted else found["problem"] or "does not answer"
    refused = "write a valid key into the file that routero.admin_key_file names; it is read at every call"
    remedy = (
        "" if accepted else refused if found["admin_key"] == "refused" else "check routero.base_url and the network"
    )
    yield Check("gateway", accepted, f"{where}: {says}", {"admin_key": found["admin_key"]}, remedy)
    if not accepted:
        return
    yield Check("verbs", None, _verbs(found["verbs"]), {"verbs": found["verbs"]})
    if not found["openapi"]:
        yield Check("endpoints", None, "the gateway does not describe itself (/openapi.json); each is found out in use")
        return
    missing = found["missing"]
    says = f"missing: {', '.join(missing)}" if missing else "all that idsync uses are there"
    lost = bool(NEEDED & set(missing))
    remedy = "without these nobody can be revoked: is this the management API, and its dialect right?" if lost else ""
    yield Check("endpoints", not lost if lost or not missing else None, says, {"missing": missing}, remedy)


def _verbs(verbs: Mapping[str, str]) -> str:
    """Name the operations that are not a GET or a POST, by verb: most are, and `--json` has all."""
    others = sorted(set(verbs.values()) - {"GET", "POST"})
    named = [f"{verb} for {', '.join(sorted(name for name in verbs if verbs[name] == verb))}" for verb in others]
    plain = sum(verb == "POST" for verb in verbs.values())
    return "; ".join(
        [*named, f"POST for the {plain} other writing calls" if named else f"POST for all {plain} writing calls"]
    )


async def _replica(config: Config, url: str) -> Check:
    wait = config.routero.timeout
    trial = await try_key(url, f"sk-{new_secret()}", ca_file=config.http.ca_file, timeout=wait)
    if trial.refused:
        return Check("replica", True, f"{url}: refuses a key that never existed")
    what = "takes a key that never existed: no address of a gateway" if trial.works else trial.why
    return Check("replica", False, f"{url}: {what}", {}, "repair the replica, or routero.replica_urls")


# -- the admin key --------------------------------------------------------------------------------------------------


def _scope(config: Config, seen: Seen, now: float) -> Iterator[Check]:
    """Say what the admin key sees, whose it is, and until when it lives."""
    blind = sorted(name for name, why in seen.refused.items() if why)
    told = ", ".join(f"{count} {name}" for name, count in seen.totals.items() if count is not None)
    if blind:
        whys = "; ".join(f"{name}: {seen.refused[name]}" for name in blind)
        remedy = "make a key of a proxy admin (at Routero, of an admin of the organization) for idsync"
        yield Check("admin key", False, f"may not list {', '.join(blind)} ({whys})", {"refused": blind}, remedy)
    organization = config.routero.organization_id or seen.organization
    within = f", in organization {organization} alone: whoever is outside of it is not seen" if organization else ""
    who = (
        f"a key of {seen.user_id} ({seen.role or 'role not shown'})"
        if seen.user_id
        else "a key that is no row of the gateway's: its master key"
    )
    if not seen.identified:
        who = "the gateway does not say whose key it is"
    more = {"totals": dict(seen.totals), "user_id": seen.user_id, "role": seen.role, "organization_id": organization}
    yield Check("admin key", None if blind else True, f"{who}; sees {told or 'nothing'}{within}", more)
    yield from _short_of(config, seen, now)


def _short_of(config: Config, seen: Seen, now: float) -> Iterator[Check]:
    """Say what of the key will be in the way one day."""
    if seen.identified and seen.user_id and seen.role not in (ADMIN, None):
        scoped = seen.role == "org_admin" or bool(seen.organization)
        says = f"is of role {seen.role}, not {ADMIN}: " + (
            "sees its organization" if scoped else "sees what is its own"
        )
        remedy = "set routero.organization_id to that organization" if scoped else "give idsync a key of a proxy admin"
        if not (scoped and config.routero.organization_id):
            yield Check("admin key", None if scoped else False, says, {"role": seen.role}, remedy)
    if seen.team_id:
        says = f"belongs to team {seen.team_id}: who leaves or retires that team ends it"
        yield Check("admin key", None, says, {"team_id": seen.team_id}, "make a key of no team for idsync")
    ends = epoch_of(seen.expires)
    if ends is not None and ends - now < SOON:
        says = f"expires in {count(round(max(0.0, ends - now) / DAY), 'day')} ({to_the_second(seen.expires or '')})"
        yield Check("admin key", None, says, {"expires": seen.expires}, "make a new one; idsync reads the file anew")


async def _linked(client: Gateway, db: Db | None) -> list[Check]:
    """Look up a few accounts that idsync is linked to: a key that does not see them cannot revoke them."""
    known = [people.person(db, one) for one in people.persons_with_access(db)[:SAMPLE]] if db is not None else []
    wanted = [person.account_id for person in known if person is not None and person.account_id]
    hidden = await client.unseen(wanted)
    if not hidden:
        return []
    says = f"does not see {len(hidden)} of {len(wanted)} accounts idsync is linked to ({', '.join(hidden)})"
    remedy = "were they deleted by hand? else the key, or routero.organization_id, is too narrow to revoke them"
    return [Check("admin key", None, says, {"unseen": hidden}, remedy)]


# -- who else writes ------------------------------------------------------------------------------------------------


def _rivals(seen: Seen, db: Db | None, now: float) -> Iterator[Check]:
    """Tell the signs of another SCIM sync, above all the gateway's own, on the same people and teams."""
    signs = [f"{count} of {looked} {what}" for what, (count, looked) in seen.signs.items() if count]
    more: dict[str, Any] = {what: count for what, (count, _) in seen.signs.items()}
    remedy = "take the gateway's own SCIM application off these groups at the identity provider, or idsync's"
    if signs:
        says = f"another SCIM sync writes here, or did: {', '.join(signs)}"
        yield Check("other syncs", None, says, more, f"{remedy}; two writers undo each other")
    back = journal.count(db, "departure.reasserted", since=now - WEEK) if db is not None else 0
    if back >= COMING_BACK:
        says = f"{back} times in 7 days something of departed people came back and was ended again"
        who = "`departure.reasserted` in `idsync audit tail` says what; ask who else has the admin key"
        yield Check("other syncs", None, says, {"reasserted": back}, f"{who}; {remedy}")
    if not signs and back < COMING_BACK:
        looked = ", ".join(f"{looked} {what.split(' ', 1)[0]}" for what, (_, looked) in seen.signs.items())
        yield Check("other syncs", True, f"no sign of another SCIM sync ({looked} looked at)", more)
