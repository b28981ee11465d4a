"""The measuring part of a drill: hire, make accounts and keys, let every replica take them, then act and try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from idsync.clock import new_secret
from idsync.drill.push import Push
from idsync.drill.report import Measure, Refusal, Report, stages_of
from idsync.drill.tools import Tools
from idsync.engine.desk import every
from idsync.errors import BadAnswer, IdsyncError, IncompleteSource, Rejected, Transient, Unsupported
from idsync.gateway.client import NewKey
from idsync.gateway.trial import Door
from idsync.model import DRILL, FENCE_FLAG, FENCE_TAG
from idsync.store import directory, jobs, ledger
from idsync.store.canary import Canary
from idsync.store.ledger import Departure

PAUSES = (0.05, 1.0)
"""The shortest and the longest pause between two trials of a key; it grows with the time waited, to a fiftieth of it."""
WARMING = 10.0
"""Seconds for a replica to take a key that was made just now."""
KEY_LIVES = "1h"
"""A drill's keys end by themselves after that, whatever happens; far more than a drill waits."""
DOMAIN = "drill.invalid"
"""No mail can be sent there (RFC 6761)."""


async def refuse_a_wrong_door(door: Door) -> None:
    """A key that never existed has to be refused; otherwise no refusal, and no success, would mean anything there.

    Raises:
        BadAnswer, Transient: it was not.
    """
    trial = await door.try_key(f"sk-{new_secret()}")
    if trial.works:
        msg = f"{door.url} takes a key that never existed: that is no address of a gateway's inference"
        raise BadAnswer(msg)
    if not trial.refused:
        msg = f"{door.url} does not say that a key that never existed is unknown: {trial.why}"
        raise Transient(msg)


class Acts:
    """One drill; what it finds goes into the report. `go_on` raises when there is no time left to go on."""

    def __init__(
        self, tools: Tools, doors: Sequence[Door], push: Push, report: Report, go_on: Callable[[], None]
    ) -> None:
        self._tools = tools
        self._doors = doors
        self._push = push
        self._report = report
        self._go_on = go_on

    async def measure(self, canary: Canary) -> None:
        """Do everything up to the last refusal.

        Raises:
            GatewayError, IncompleteSource: it did not come to the acts; an act that fails is in the report.
        """
        user_id = await self._push.hire()
        person = self._person_of(canary)
        keys = [await self._equip(account) for account in (*canary.accounts, person)]
        asked = await every(map(self._warm, keys))
        fenced, deleted, leaving = keys
        await asyncio.gather(
            self._guarded(self._fence_alone(canary.accounts[0], fenced)),
            self._guarded(self._deletion_alone(deleted, asked[1])),
            self._guarded(self._whole_chain(user_id, person, leaving)),
        )

    async def _guarded(self, act: Coroutine[Any, Any, None]) -> None:
        """One act that fails does not stop the others."""
        try:
            await act
        except IdsyncError as error:
            self._report.fail(error.exit_code, str(error))

    # -- before -----------------------------------------------------------------------------------------------------

    def _person_of(self, canary: Canary) -> str:
        user = directory.user_by_name(self._tools.db, canary.source, canary.name)
        if user is None:
            msg = "the SCIM endpoint said that it made the canary, and it is not there"
            raise IncompleteSource(msg)
        return user.person_id

    async def _equip(self, account: str) -> NewKey:
        """Make an account and a key for it."""
        self._go_on()
        gateway, role = self._tools.gateway, self._tools.place.role
        email, alias = f"{account}@{DOMAIN}", f"idsync-drill-key-{account}"
        try:
            await gateway.create_user(user_id=account, email=email, role=role, alias="idsync drill")
            return await gateway.generate_key(user_id=account, alias=alias, duration=KEY_LIVES)
        except Transient:
            self._report.unsure = True
            raise

    async def _warm(self, key: NewKey) -> dict[str, float]:
        """Let every replica take a key; return when each was first asked to, before it could remember the key."""
        return dict(await every(self._warm_at(door, key) for door in self._doors))

    async def _warm_at(self, door: Door, key: NewKey) -> tuple[str, float]:
        clock, place = self._tools.clock, self._tools.place
        until = clock.monotonic() + min(WARMING, self._report.wait)
        asked, taken = 0.0, 0
        while taken < (1 if place.told_apart else place.steady):
            at = clock.monotonic()
            trial = await door.try_key(key.secret)
            if trial.works:
                asked, taken = asked or at, taken + 1
                continue
            if at > until:
                msg = f"{door.url} does not take a key that was made just now ({trial.why}); is it this gateway's?"
                raise Transient(msg)
            asked, taken = 0.0, 0
            self._go_on()
            await asyncio.sleep(PAUSES[0])
        return door.url, asked

    # -- the three acts ---------------------------------------------------------------------------------------------

    async def _fence_alone(self, account: str, key: NewKey) -> None:
        gateway, report = self._tools.gateway, self._report
        user = await gateway.get_user(account)
        if user is None or user.metadata is None:
            msg = f"the gateway does not show the metadata of account {account}, which it has just made"
            raise BadAnswer(msg)
        began = self._tools.clock.monotonic()
        try:
            await gateway.update_user(user, metadata={**user.metadata, FENCE_FLAG: False, FENCE_TAG: DRILL})
        except (Unsupported, Rejected):
            report.verdict = "unsupported"
            return
        report.fence = await self._watch(key, dict.fromkeys(self._tools.place.replicas, began))
        report.fail_where_unclear("the fence", report.fence)
        self._judge_the_fence()

    def _judge_the_fence(self) -> None:
        """A fence that was not seen to work may need the gateway's cache time; who has waited less knows nothing."""
        report, cache_time = self._report, self._tools.place.cache_time
        if report.fence.seconds is not None:
            report.verdict = "proven"
        elif report.fence.taken and report.wait >= cache_time:
            report.verdict = "unsupported"
        elif report.fence.taken:
            url = report.fence.taken[0].url
            longer = f"wait as long as routero.cache_time ({cache_time:g} s) to know whether it will"
            report.fail(1, f"{url} does not refuse a key that is only fenced yet; {longer}")

    async def _deletion_alone(self, key: NewKey, asked: Mapping[str, float]) -> None:
        """Delete a key; its time counts from when each replica had last to look it up, which is the whole window."""
        await self._tools.gateway.delete_keys([key.id])
        self._report.deletion = await self._watch(key, asked)
        self._report.fail_where_taken("a key that was deleted", self._report.deletion)
        self._report.fail_where_unclear("a deletion", self._report.deletion)

    async def _whole_chain(self, user_id: str, person: str, key: NewKey) -> None:
        report, began = self._report, self._tools.clock.monotonic()
        await self._push.part(user_id)
        report.chain = await self._watch(key, dict.fromkeys(self._tools.place.replicas, began))
        report.fail_where_taken("the key of somebody who left", report.chain)
        report.fail_where_unclear("the whole chain", report.chain)
        departure = await self._wait_until_verified(person, began + report.wait)
        if departure is not None:
            report.stages = stages_of(departure)
        if departure is None or departure.verified_at is None:
            why = departure.problem if departure is not None else "there is no departure"
            job = jobs.get(self._tools.db, person)
            alive = job is not None and job.alive
            report.fail(5 if alive else 1, f"the departure was not verified in {report.wait:g} s: {why}")

    async def _wait_until_verified(self, person: str, until: float) -> Departure | None:
        while True:
            departure = ledger.open_departure(self._tools.db, person)
            done = departure is not None and departure.verified_at is not None
            if done or self._tools.clock.monotonic() > until:
                return departure
            self._go_on()
            await asyncio.sleep(PAUSES[0])

    # -- trying -----------------------------------------------------------------------------------------------------

    async def _watch(self, key: NewKey, began: Mapping[str, float]) -> Measure:
        """Try a key at every address until all of them refuse it, or time is up; times count from `began`."""
        until = self._tools.clock.monotonic() + self._report.wait
        return Measure(tuple(await every(self._watch_at(door, key, began[door.url], until) for door in self._doors)))

    async def _watch_at(self, door: Door, key: NewKey, began: float, until: float) -> Refusal:
        clock, (shortest, longest) = self._tools.clock, PAUSES
        started, first, in_a_row = clock.monotonic(), 0.0, 0
        while True:
            trial = await door.try_key(key.secret)
            now = clock.monotonic()
            first = first if trial.refused and in_a_row else now
            in_a_row = in_a_row + 1 if trial.refused else 0
            if in_a_row == self._tools.place.steady:
                return Refusal(door.url, first - began, trial)
            if now > until and not trial.refused:
                return Refusal(door.url, None, trial)
            self._go_on()
            await asyncio.sleep(shortest if trial.refused else min(longest, max(shortest, (now - started) / 50)))
