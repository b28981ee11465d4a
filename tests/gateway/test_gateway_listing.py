"""A listing is complete or an error; pages are played back as a gateway might send them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from idsync.errors import BadAnswer, Transient
from idsync.gateway.listing import read_all

Page = dict[str, Any] | Exception


def page(rows: Any, total: Any = None) -> Page:
    return {"rows": rows, "total": total}


def read(*pages: Page, steady: bool = False) -> tuple[list[str], list[int]]:
    """Read through the pages in the order given; return the rows and the numbers of the pages asked for."""
    asked: list[int] = []

    async def fetch(number: int) -> Any:
        asked.append(number)
        found = pages[len(asked) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    return asyncio.run(read_all(fetch, rows="rows", total="total", name_of=str, steady=steady)), asked


def test_one_page() -> None:
    assert read(page(["a", "b"], 2)) == (["a", "b"], [1])


def test_nothing() -> None:
    assert read(page([], 0)) == ([], [1])


def test_a_short_page_is_no_end() -> None:
    assert read(page(["a"], 3), page(["b"], 3), page(["c"], 3)) == (["a", "b", "c"], [1, 2, 3])


def test_without_a_total_an_empty_page_ends_it() -> None:
    assert read(page(["a"]), page(["b"]), page([])) == (["a", "b"], [1, 2, 3])


def test_growing_at_the_end_is_fine() -> None:
    assert read(page(["a", "b"], 2 + 1), page(["c"], 4), page(["d"], 4))[0] == ["a", "b", "c", "d"]


def test_a_row_seen_twice_counts_once() -> None:
    assert read(page(["a", "b"], 3), page(["b", "c"], 3))[0] == ["a", "b", "c"]


def test_shrinking_is_read_again() -> None:
    again = (page(["b", "c"], 3), page(["d"], 3))
    rows, asked = read(page(["a", "b"], 4), page(["d"], 3), *again)
    assert rows == ["b", "c", "d"]
    assert asked == [1, 2, 1, 2]


def test_a_row_that_goes_while_another_comes_is_noticed_where_it_matters() -> None:
    moved = (page(["a", "b"], 4), page(["d", "e"], 4), page(["b", "c"], 4))
    again = (page(["b", "c"], 4), page(["d", "e"], 4), page(["b", "c"], 4))
    assert read(*moved)[0] == ["a", "b", "d", "e"], "c was never seen"
    assert read(*moved, *again, steady=True) == (["b", "c", "d", "e"], [1, 2, 1, 1, 2, 1])
    with pytest.raises(BadAnswer):
        read(*moved, *moved, steady=True)


def test_one_page_is_steady() -> None:
    assert read(page(["a"], 1), steady=True) == (["a"], [1])


@pytest.mark.parametrize(
    "once",
    [
        (page(["a"], 3), page(["a"], 3)),
        (page(["a"], 2), page([], 2)),
        (page([], 2),),
        (page(["a", "b"], 1),),
        (page(None, 1),),
        (page({"a": 1}, 1),),
        ({"total": 0},),
        (page(["a"], 3), page(["b"], 2)),
    ],
)
def test_twice_not_complete_is_an_error(once: tuple[Page, ...]) -> None:
    with pytest.raises(BadAnswer):
        read(*once, *once)


def test_other_errors_are_not_retried_here() -> None:
    with pytest.raises(Transient):
        read(page(["a"], 2), Transient())
