"""Records in the order in which they came: found by id, removable, readable from any place on at no cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """A place, once given, stays: a listing that goes on from a place neither misses nor repeats anybody."""

    def __init__(self) -> None:
        self._places: list[T | None] = []
        self._where: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __iter__(self) -> Iterator[T]:
        return (item for item in self._places if item is not None)

    @property
    def end(self) -> int:
        """The place the next one will have."""
        return len(self._places)

    def keys(self) -> list[str]:
        return list(self._where)

    def add(self, key: str, item: T) -> bool:
        """Put it at the end. False if the key is there already; nothing changes then."""
        if key in self._where:
            return False
        self._where[key] = len(self._places)
        self._places.append(item)
        return True

    def get(self, key: str) -> T | None:
        place = self._where.get(key)
        return None if place is None else self._places[place]

    def remove(self, key: str) -> T | None:
        place = self._where.pop(key, None)
        if place is None:
            return None
        item, self._places[place] = self._places[place], None
        return item

    def page(self, start: int, size: int, wanted: Callable[[T], bool] | None = None) -> tuple[list[T], int, bool]:
        """Return up to `size` items from a place on, the place to go on from, and whether anything may follow.

        The last answer is true at an exactly full page that nothing follows, as in the real thing.
        """
        found: list[T] = []
        places = self._places
        for place in range(start, len(places)):
            item = places[place]
            if item is not None and (wanted is None or wanted(item)):
                found.append(item)
                if len(found) == size:
                    return found, place + 1, True
        return found, len(places), False
