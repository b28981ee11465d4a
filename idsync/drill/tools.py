"""Where drills are held, and what with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from idsync.clock import Clock
from idsync.gateway.client import Gateway
from idsync.store.db import Db, Store

T = TypeVar("T")

STEADY, STEADY_BEHIND_ONE_ADDRESS = 5, 20
"""Trials in a row that have to agree; more where an address may stand for several processes."""


@dataclass(frozen=True)
class Place:
    """Where drills take place: `scim` is our own endpoint, `replicas` are the addresses at which keys are tried.

    `told_apart` says that each of these is one process of the gateway. Times in seconds.
    """

    scim: str
    replicas: tuple[str, ...]
    told_apart: bool
    sources: frozenset[str]
    role: str
    ca_file: str
    cache_time: float
    call_timeout: float

    @property
    def steady(self) -> int:
        return STEADY if self.told_apart else STEADY_BEHIND_ONE_ADDRESS


@dataclass(frozen=True)
class Tools:
    """What a drill has at hand."""

    store: Store
    gateway: Gateway
    clock: Clock
    place: Place

    @property
    def db(self) -> Db:
        """Read-only rows as of the last commit."""
        return self.store.reader()

    async def write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self.store.submit(work))
