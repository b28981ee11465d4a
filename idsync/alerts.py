"""The gateway's own Slack alerts about budgets, kept as the configuration wants them.

what the gateway shows                       | what is done
---------------------------------------------+------------------------------------------------------------------------
Slack is no destination                      | added; the others stay
Slack is one, `budget_alerts` is not sent    | added to the types; the others stay
another webhook                              | ours is written
it does not show the webhook                 | written once, and again when the configuration has another one
it does not say where alerts go              | the same, and Slack becomes the only destination: said before and after
it has no /config/update                     | said, once in the log; tried again a day later

Nothing is ever switched off: without `budget_alerts` the gateway's alerts are not looked at. The webhook is a secret: the
store has its fingerprint.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import structlog

from idsync.clock import Clock
from idsync.errors import BadAnswer, ConfigError, GatewayError, Rejected, Unsupported
from idsync.gateway.answers import clean
from idsync.gateway.client import Gateway
from idsync.model import Alerting
from idsync.plan import Change
from idsync.store import facts, journal
from idsync.store.db import Db, Store

SLACK = "slack"
BUDGETS = "budget_alerts"
NAME = "[alerts]"
"""What alerts are called where teams are named."""
WRITTEN = "alerts:slack"
"""The fact of what was written last: to which gateway, and the fingerprint of the webhook."""
LACKING = "alerts:lacking"
"""The fact that a gateway has no /config/update: which one, and when it said so."""
AGAIN = 86400.0
"""Seconds after which a gateway without /config/update is asked once more."""
NO_ENDPOINT = (
    "this gateway has no POST /config/update; set its Slack alerts where it is configured, or budget_alerts = false"
)
NOT_TOLD = "where alerts go now is not told, so Slack becomes the only destination"

log = structlog.get_logger(__name__)


class Alerts:
    """Plans and sets Slack budget alerts; does nothing unless they are `wanted`."""

    def __init__(
        self, store: Store, gateway: Gateway, clock: Clock, webhook: Callable[[], str], *, wanted: bool
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._webhook = webhook
        self._wanted = wanted

    async def plan(self) -> tuple[list[Change], list[str]]:
        """Return what differs, and notes on what cannot be done here.

        Raises:
            GatewayError: the gateway could not be asked.
        """
        if not self._wanted:
            return [], []
        if self._lacks_endpoint():
            return [], [f"{NAME}: {NO_ENDPOINT}"]
        try:
            webhook = self._webhook()
        except ConfigError as error:
            return [], [f"{NAME}: {error}"]
        shown = await self._shown()
        fields, why = _difference(shown, webhook, written=self._was_written(webhook))
        return [Change("alerts.set", SLACK, "budget alerts", why, fields=fields)] if why else [], []

    async def apply(self, change: Change) -> str | None:
        """Set them and read back; return why that failed."""
        try:
            webhook = self._webhook()
        except ConfigError as error:
            return str(error)
        try:
            await self._gateway.set_alerting(change.fields["alerting"], change.fields.get("alert_types"), webhook)
            shown = await self._shown()
        except Unsupported:
            await self._write(self._note_lacking)
            return NO_ENDPOINT
        except GatewayError as error:
            told = clean(str(error), (webhook,))
            log.warning("alerts.failed", error=told)
            return told
        if shown is not None and not _goes_to_slack(shown):
            return "the gateway said that it was done, and does not show Slack among its destinations"
        await self._write(lambda db: self._remember(db, change, webhook))
        return None

    async def _shown(self) -> Alerting | None:
        try:
            return await self._gateway.alerting()
        except (Unsupported, Rejected, BadAnswer):
            return None

    async def _write(self, work: Callable[[Db], None]) -> None:
        await asyncio.wrap_future(self._store.submit(work))

    def _fingerprint(self, webhook: str) -> str:
        return hashlib.sha256(f"{self._gateway.name} {webhook}".encode()).hexdigest()

    def _was_written(self, webhook: str) -> bool:
        return bool(facts.get(self._store.reader(), WRITTEN) == self._fingerprint(webhook))

    def _lacks_endpoint(self) -> bool:
        known: Any = facts.get(self._store.reader(), LACKING)
        return known is not None and known["gateway"] == self._gateway.name and self._clock.now() - known["at"] < AGAIN

    def _note_lacking(self, db: Db) -> None:
        known: Any = facts.get(db, LACKING)
        now = self._clock.now()
        if known is None or known["gateway"] != self._gateway.name:
            db.after_commit(lambda: log.warning("alerts.unsupported", why=NO_ENDPOINT))
        facts.put(db, LACKING, {"gateway": self._gateway.name, "at": now}, now)

    def _remember(self, db: Db, change: Change, webhook: str) -> None:
        now = self._clock.now()
        facts.put(db, WRITTEN, self._fingerprint(webhook), now)
        facts.drop(db, LACKING)
        detail = {"why": change.why, **change.fields}
        journal.append(db, at=now, actor="reconcile", action=change.kind, subject=change.subject, detail=detail)


def _difference(shown: Alerting | None, webhook: str, *, written: bool) -> tuple[dict[str, Any], str]:
    """Return what is to be written, and why; "" for nothing."""
    if shown is None:
        return {"alerting": [SLACK]}, "" if written else NOT_TOLD
    why = []
    destinations = list(shown.destinations or ())
    if not _goes_to_slack(shown):
        why.append(f"alerts go to {destinations or 'nobody'}" if shown.destinations is not None else NOT_TOLD)
    fields: dict[str, Any] = {"alerting": [*destinations, *([] if SLACK in destinations else [SLACK])]}
    if shown.types is not None and BUDGETS not in shown.types:
        fields["alert_types"] = [*shown.types, BUDGETS]
        why.append("Slack is not told of budgets")
    if _is_readable(shown.webhook):
        if shown.webhook != webhook:
            why.append("Slack has another webhook")
    elif not written and _goes_to_slack(shown):
        why.append("the webhook is not shown")
    return fields, "; ".join(why)


def _goes_to_slack(shown: Alerting) -> bool:
    """Older releases show Slack's part alone, and only while it is a destination."""
    return SLACK in shown.destinations if shown.destinations is not None else shown.types is not None


def _is_readable(webhook: str | None) -> bool:
    return webhook is not None and webhook.startswith("https://") and "*" not in webhook and "..." not in webhook
