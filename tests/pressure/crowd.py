"""Many clients that begin at the same instant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from support.endpoint import Got

T = TypeVar("T")
CLIENTS = 16


def at_once(work: Callable[[int], T], count: int = CLIENTS) -> list[T]:
    """Run `work(0)` to `work(count - 1)`, each in a thread of its own, and return what they returned."""
    gate = threading.Barrier(count)

    def run(number: int) -> T:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def version_of(got: Got) -> int:
    """Return the number in the ETag of an answer."""
    return version(got.headers["etag"])


def version(tag: str) -> int:
    return int(tag.removeprefix('W/"').removesuffix('"'))
