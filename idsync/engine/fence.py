"""The fence: one flag in a user's metadata that ends every key they hold, hidden and future ones included.

Metadata is written as a whole and others write there too, so it is read again in the same turn as it is written, and
read back. A fence of somebody else is left to whoever made it; ours carries the id of its departure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from idsync.engine import admins
from idsync.engine.case import Case
from idsync.engine.desk import Desk
from idsync.errors import AdminKeyRefused, GatewayError, Throttled, Transient, Unsupported
from idsync.model import FENCE_FLAG, FENCE_TAG, GatewayUser
from idsync.store import ledger, verdicts

log = structlog.get_logger(__name__)


class Fence:
    """Raises the fence of one departure."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._earlier = ledger.departure_ids(case.desk.db, case.person.id) - {case.departure.id}

    def is_wanted(self, user: GatewayUser | None) -> bool:
        """A fence of an earlier departure of ours is renewed; a foreign one is left to whoever made it."""
        if user is None or self._case.fence == "unsupported":
            return False
        return not user.fenced or user.fence_tag in self._earlier

    async def raise_on(self, account_id: str, *, spare_admins: bool = False) -> GatewayUser | None:
        """Read an account and fence it in the same turn; return it as it was read, None when there is none.

        An account that cannot be read, or whose metadata is no object, is not written: its keys are blocked first,
        and a later run fences.
        """
        case, seen = self._case, list[GatewayUser]()
        sent = False

        def change(user: GatewayUser) -> Mapping[str, Any] | None:
            nonlocal sent
            seen.append(user)
            spared = spare_admins and user.role == admins.ADMIN and not user.fenced
            if user.metadata is None or spared or not self.is_wanted(user):
                return None
            sent = True
            return {**user.metadata, FENCE_FLAG: False, FENCE_TAG: case.departure.id}

        try:
            user = await case.desk.gateway.edit_metadata(account_id, change, sure=True)
        except (AdminKeyRefused, Throttled):
            raise
        except GatewayError as error:  # the keys are ended all the same; nothing closes without the fence
            if sent and isinstance(error, Unsupported) and not self._is_proven():
                case.fence = case.features["fence"] = "unsupported"
            else:
                event = "leaver.not_fenced" if sent else "leaver.unreadable"
                log.error(event, departure=case.departure.id, error=str(error))
            return seen[-1] if seen else GatewayUser(account_id, None, None, None)
        if sent:
            case.features["fence"] = "used"
            case.fence_sent_at = case.fence_sent_at or case.desk.clock.now()
            case.came_back("fence")
        return user

    def _is_proven(self) -> bool:
        """Whether a drill has lately seen that this gateway takes a fence."""
        desk = self._case.desk
        return verdicts.fence_verdict(desk.db, desk.gateway.name, desk.clock.now()) == "proven"


async def lift_fence(desk: Desk, account_id: str, ours: frozenset[str]) -> None:
    """Lift a fence that one of a person's departures has made, nobody else's, and make sure that it is gone.

    Raises:
        Transient: the gateway still shows it after saying it was lifted.
    """
    if not ours:
        return  # they never left
    sent = False

    def change(user: GatewayUser) -> Mapping[str, Any] | None:
        nonlocal sent
        if not user.fenced or user.metadata is None or user.fence_tag not in ours:
            return None
        desk.still_wanted()
        sent = True
        return {key: value for key, value in user.metadata.items() if key != FENCE_TAG} | {FENCE_FLAG: True}

    await desk.gateway.edit_metadata(account_id, change)
    if not sent:
        return
    shown = await desk.gateway.get_user(account_id)
    if shown is not None and shown.fenced and shown.fence_tag in ours:
        raise Transient(f"the gateway still shows the fence of {account_id} after saying it was lifted")
