"""What waits for somebody: tokens that are old, unused or missing, protections that ended, holds nobody decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from idsync.clock import end_of_day
from idsync.config import Config
from idsync.doctor.check import DAY, Check, ago
from idsync.store import ledger, tokens
from idsync.store.db import Db
from idsync.store.tokens import TokenRow
from idsync.words import count

OLD = 365 * DAY
"""Seconds after which a token should have been exchanged."""
EXCHANGE = 14 * DAY
"""Seconds for which two tokens of one source may live side by side."""
UNUSED = 90 * DAY
"""Seconds without use after which a token is only a risk."""
WAITING = 7 * DAY
"""Seconds after which a hold has been forgotten, not weighed."""
SOON = 14 * DAY


def waiting(db: Db | None, config: Config, now: float) -> list[Check]:
    """Judge tokens, protections and holds; `db` is None before the first start."""
    live = [one for one in tokens.live_tokens(db) if one.state(now) == "live"] if db is not None else []
    checks = [*_missing(config, live), *_aged(live, now)]
    checks = checks or [Check("tokens", True, f"{len(live)} live, none old, unused or left over")]
    return [*checks, *_allow_lists(config), *_protected(config, now), *(_holds(db, now) if db is not None else [])]


def _missing(config: Config, live: Sequence[TokenRow]) -> Iterator[Check]:
    held = {token.name for token in live if token.kind == "source"}
    for source in config.scim.sources:
        if source.name not in held and not source.token_file and source.token is None:
            says = f"source {source.name} has no live token: its pushes are answered 401"
            yield Check("tokens", None, says, {"source": source.name}, f"idsync token new {source.name}")


def _aged(live: Sequence[TokenRow], now: float) -> Iterator[Check]:
    """Say of each token the worst that is to be said; times of use are written down once a minute."""
    for token in live:
        others = [one for one in live if (one.kind, one.name) == (token.kind, token.name) and one.id != token.id]
        newer = [one for one in others if one.created_at > token.created_at]
        rest = now - (token.used_at or token.created_at)
        used = f"last used {ago(now - token.used_at)}" if token.used_at else "never used"
        who = f"{token.kind} {token.name}: token {token.id}"
        more = {"id": token.id, "kind": token.kind, "name": token.name, "age_days": int((now - token.created_at) / DAY)}
        end = f"idsync token revoke {token.id}"
        if token.expires_at is not None and token.expires_at - now < SOON and not newer:
            says = f"{who} expires in {count(round((token.expires_at - now) / DAY), 'day')}; {used}"
            again = token.name if token.kind == "source" else f"--operator {token.name}"
            yield Check("tokens", None, says, more, f"make the next one: idsync token new {again}")
        elif token.kind == "source" and newer and now - max(one.created_at for one in newer) > EXCHANGE:
            says = f"{who} lives beside a newer one for {ago(now - newer[-1].created_at).removesuffix(' ago')}; {used}"
            yield Check("tokens", None, says, more, f"when the identity provider uses the newer one: {end}")
        elif rest > UNUSED:
            yield Check("tokens", None, f"{who} has rested for {count(round(rest / DAY), 'day')}; {used}", more, end)
        elif now - token.created_at > OLD:
            says = f"{who} is {count(round((now - token.created_at) / DAY), 'day')} old; {used}"
            again = f"idsync token new {token.name}" if token.kind == "source" else f"--operator {token.name}"
            yield Check("tokens", None, says, more, f"exchange it: {again}, hand it over, then {end}")


def _allow_lists(config: Config) -> Iterator[Check]:
    open_ = [source.name for source in config.scim.sources if not source.allow_from]
    if open_:
        says = f"the tokens of {', '.join(open_)} count from any network; `allow_from` narrows that"
        yield Check("allow_from", None, says, {"sources": open_})


def _protected(config: Config, now: float) -> Iterator[Check]:
    for entry in config.protected:
        ends = end_of_day(entry.expires) if entry.expires is not None else None
        if ends is None or ends - now > SOON:
            continue
        when = f"expired on {entry.expires}: shields nobody any more" if ends <= now else f"ends on {entry.expires}"
        more = {"match": entry.match, "expires": str(entry.expires)}
        yield Check("protected", None, f"{entry.match}: {when} ({entry.reason})", more, "renew it, or take it out")


def _holds(db: Db, now: float) -> Iterator[Check]:
    for hold in ledger.holds(db):
        if now - hold.created_at > WAITING:
            says = f"{hold.id} waits since {ago(now - hold.created_at)} for somebody to decide: {hold.reason}"
            yield Check("holds", None, says, {"id": hold.id}, f"idsync holds show {hold.id}")
