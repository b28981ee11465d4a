"""The same for many things, a few at a time: the first failure ends the others."""

from __future__ import annotations

import asyncio

import pytest

from idsync.side_by_side import side_by_side


class Work:
    """Takes many turns of the loop for each number; breaks at one of them."""

    def __init__(self, breaks_at: int) -> None:
        self.breaks_at = breaks_at
        self.under_way = self.most = 0
        self.done: list[int] = []

    async def __call__(self, number: int) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if number == self.breaks_at:
                raise LookupError(number)
            for _ in range(50):
                await asyncio.sleep(0)
            self.done.append(number)
        finally:
            self.under_way -= 1


def test_a_few_at_a_time() -> None:
    work = Work(-1)
    asyncio.run(side_by_side(range(10), work, 3))
    assert (sorted(work.done), work.most) == (list(range(10)), 3)


def test_the_first_failure_ends_the_others() -> None:
    work = Work(5)
    with pytest.raises(LookupError, match="5"):
        asyncio.run(side_by_side(range(10), work, 3))
    assert (sorted(work.done), work.under_way) == ([0, 1, 2], 0)
