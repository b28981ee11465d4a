"""Read a paged listing to its end, and say so only when it proved complete.

Offset paging runs over a table that moves. With a stable ascending order, new rows come at the end and do no harm;
a row that goes away shifts the others, and one is skipped unseen. So:

    what is seen                                   what it means
    a page brings nothing new                      the pages go in circles: not complete
    the total gets smaller while reading           a row may have been skipped: not complete
    the distinct rows do not add up to the total   not complete
    no total at all                                read until a page is empty
    (`steady`) the page before has changed         one row went while another came, and the total says nothing of
                                                   it: a row may have been skipped: not complete

The last look doubles the calls from the second page on; it is for listings that are short, and closed on.

A page shorter than asked is no end: a gateway may have a smaller maximum.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from idsync.errors import BadAnswer
from idsync.gateway.answers import TooLong, object_of, rows_of
from idsync.gateway.parse import count_of

PAGE = 100
"""LiteLLM 1.108.0 answers 422 to more (observed)."""

MOST_PAGES = 20_000

Fetch = Callable[[int], Awaitable[Any]]
"""Read one page, numbered from 1."""


async def read_all(
    fetch: Fetch, *, rows: str, total: str, name_of: Callable[[Any], str], steady: bool = False
) -> list[Any]:
    """Return every row once, by `name_of`; a reading that does not add up is repeated once from the start.

    `steady` reads the page before once more after each further one.

    Raises:
        TooLong: a page is longer than what is read of an answer.
        BadAnswer: the second reading does not add up either, or a page is not a page.
    """
    try:
        return await _read_once(fetch, rows, total, name_of, steady=steady)
    except TooLong:
        raise
    except BadAnswer:
        return await _read_once(fetch, rows, total, name_of, steady=steady)


async def _read_once(fetch: Fetch, rows: str, total: str, name_of: Callable[[Any], str], *, steady: bool) -> list[Any]:
    seen: dict[str, Any] = {}
    before_it: list[Any] = []
    expected: int | None = None
    for number in range(1, MOST_PAGES + 1):
        page = object_of(await fetch(number), "a listing")
        found = rows_of(page.get(rows), f"a listing's {rows}")
        announced = count_of(page.get(total))
        if expected is not None and announced is not None and announced < expected:
            raise BadAnswer("a listing got shorter while it was read")
        expected = announced if announced is not None else expected
        before = len(seen)
        seen.update((name_of(row), row) for row in found)
        if found and len(seen) == before:
            raise BadAnswer("a listing's pages go in circles")
        if steady and number > 1:
            again = rows_of(object_of(await fetch(number - 1), "a listing").get(rows), f"a listing's {rows}")
            if list(map(name_of, again)) != list(map(name_of, before_it)):
                raise BadAnswer("a listing moved while it was read")
        before_it = found
        if not found or (expected is not None and len(seen) >= expected):
            break
    if expected is not None and len(seen) != expected:
        raise BadAnswer(f"a listing of {expected} rows showed {len(seen)}")
    return list(seen.values())
