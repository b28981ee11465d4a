"""Do the same for many things, a few at a time, and stop at the first that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(things: Iterable[T], do: Callable[[T], Awaitable[None]], width: int) -> None:
    """Do it for each, at most `width` at the same time. The first failure ends the others and is raised."""
    left = iter(things)

    async def work() -> None:
        for thing in left:
            await do(thing)

    tasks = [asyncio.ensure_future(work()) for _ in range(width)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
