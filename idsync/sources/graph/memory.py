"""Who came and went of late, for some copy of the directory may not have heard of it yet; a restart forgets it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from idsync.clock import Clock
from idsync.sources.graph.delta import Item

YOUNG = 3600.0
"""Seconds in which a 404 may mean that not every copy of the directory has heard of a user yet."""


class Memory:
    """Ids of users, and when (epoch seconds) they appeared or were removed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: set[str] | None = None
        self._young: dict[str, float] = {}
        self._removed: dict[str, float] = {}

    def is_young(self, id_: str) -> bool:
        """Tell whether a user appeared within the last hour and was not removed since."""
        first = self._young.get(id_)
        return first is not None and self._clock.now() - first < YOUNG and id_ not in self._removed

    def listed(self, users: Collection[str]) -> None:
        """Take note of everybody. Of the first listing after a start nobody counts as new."""
        if self._known is not None:
            self._note_young(users)
        self._known = set(users)

    def told(self, users: Iterable[str], members: Iterable[str]) -> None:
        """Take note of who changed and, once everybody was listed, of the members of groups that did."""
        self._note_young(users if self._known is None else {*users, *members})

    def _note_young(self, ids: Iterable[str]) -> None:
        now = self._clock.now()
        self._young = {id_: at for id_, at in self._young.items() if now - at < YOUNG}
        for id_ in ids:
            if id_ not in (self._known or ()):
                self._young.setdefault(id_, now)

    def removals(self, items: Mapping[str, Item]) -> set[str]:
        """Return who was said to be removed within the last hour, and still is: by id, some copy may still show them."""
        now = self._clock.now()
        self._removed = {id_: at for id_, at in self._removed.items() if now - at < YOUNG}
        again = set(self._removed)
        for id_, item in items.items():
            if item.removed:
                self._removed[id_] = now
            else:
                self._removed.pop(id_, None)
        return again & set(self._removed)
