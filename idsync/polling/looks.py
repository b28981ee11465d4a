"""Looks by id: whoever may lose something is read by themselves before anything is taken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from idsync.errors import IncompleteSource
from idsync.intake.polls import DENIALS, Loss
from idsync.model import Observation
from idsync.side_by_side import side_by_side
from idsync.snapshot import Look, PolledSource, Seen
from idsync.store import polled
from idsync.store.db import Db

T = TypeVar("T")
AT_ONCE = 4
"""Looks by id that are under way at the same time; the source's own limits go before this."""
CONTRADICTIONS = 3
"""Looks that contradict a listing, and are most of them, from which on it is taken for one that was narrowed."""


@dataclass
class Looked:
    """What the looks by id have shown. `kept` are those who are there, in all the groups that were asked about."""

    losses: list[Loss] = field(default_factory=list)
    back: dict[str, Seen] = field(default_factory=dict)
    joins: dict[str, set[str]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


class Looks:
    """Looks people up at one source. `dry_run`: nothing is written, not even that somebody was missing."""

    def __init__(self, store: Any, source: PolledSource, *, dry_run: bool = False) -> None:
        self._store = store
        self._source = source
        self._dry_run = dry_run

    async def up(self, nominated: Mapping[str, Collection[str]], absent: Collection[str] = ()) -> Looked:
        """Read users by id, with the groups to ask about; `absent` are those who were missing from a listing.

        Raises:
            IncompleteSource: no answer, or most looks contradict the listing, so it was not whole.
        """
        looked = Looked()
        against = Counter[bool]()

        async def one(external_id: str) -> None:
            groups = nominated[external_id]
            _refuse_a_narrowed_listing(self._source.name, against)
            look = await self._source.look_up(external_id, sorted(groups))
            against[_sort(look, groups, looked)] += external_id in absent
            if external_id in looked.waiting:
                await self._wait_for_another_word(look, looked)

        await side_by_side(sorted(nominated), one, AT_ONCE)
        _refuse_a_narrowed_listing(self._source.name, against)
        return looked

    async def _wait_for_another_word(self, look: Look, looked: Looked) -> None:
        """Believe that somebody is gone: at once, or when the source has said so as often as it has to."""
        name, patience, external_id = self._source.name, self._source.patience, look.user.external_id
        before = polled.known_users(self._store.reader(), name, [external_id]).get(external_id)
        times = patience
        if patience > 1 and (before is None or before.observation is Observation.PRESENT):
            if self._dry_run:
                times = polled.times_absent(self._store.reader(), name, external_id) + 1
            else:
                times = await self._write(lambda db: polled.note_absent(db, name, external_id, look.user.at))
        if times >= patience:
            looked.waiting.remove(external_id)
            looked.losses.append(Loss(look.user))

    async def _write(self, work: Callable[[Db], T]) -> T:
        result: T = await asyncio.wrap_future(self._store.submit(work))
        return result


def _sort(look: Look, groups: Collection[str], looked: Looked) -> bool:
    """Put a look where it belongs; return whether it contradicts what nominated the user."""
    user = look.user
    if user.observation is Observation.UNKNOWN:
        looked.unknown[user.external_id] = user.why
    elif user.observation is Observation.ABSENT:
        looked.waiting.append(user.external_id)
    elif user.observation in DENIALS:
        looked.losses.append(Loss(user))
    else:
        looked.back[user.external_id] = user
        ended = sorted(set(groups) - look.groups) if look.groups is not None else []
        if look.groups:
            looked.joins[user.external_id] = set(look.groups)
        if ended:
            looked.losses.append(Loss(user, tuple(ended)))
        else:
            looked.kept.add(user.external_id)
            return True
    return False


def _refuse_a_narrowed_listing(name: str, against: Counter[bool]) -> None:
    if against[True] >= CONTRADICTIONS and against[True] > against[False]:
        msg = (
            f"{name}: {against[True]} of {against.total()} people who were missing from its listing are there when looked"
            " up by id; the listing was not whole (was the role of idsync's service app narrowed?)"
        )
        raise IncompleteSource(msg)
