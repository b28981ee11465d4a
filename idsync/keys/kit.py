"""What everything about keys has at hand: store, gateway, clock, what is wanted, and where secrets go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from idsync.clock import Clock
from idsync.gateway.client import Gateway
from idsync.keys.due import WantedKey
from idsync.sinks.base import Sink
from idsync.store.db import Db, Store
from idsync.store.turns import in_turn

T = TypeVar("T")
PLACE = "keys"
"""What processes that share a store take turns at: the one whose turn it is may know a secret that is in no sink yet."""
ACTOR = "keys"
"""Who acts in the audit trail when nobody asked."""


class Telemetry(Protocol):
    """What is reported; `idsync.metrics` turns it into Prometheus series."""

    def key_rotation(self, result: str) -> None:
        """Count a new key: "delivered", "failed", or "given up" when its secret was let go undelivered."""


@dataclass
class Kit:
    """`wanted` follows the configuration, between two turns; the rest stays."""

    store: Store
    gateway: Gateway
    clock: Clock
    wanted: Mapping[str, WantedKey]
    sinks: Mapping[str, Sink]
    telemetry: Telemetry

    @property
    def db(self) -> Db:
        """Read-only rows as of the last commit."""
        return self.store.reader()

    async def write(self, work: Callable[[Db], T]) -> T:
        """Write, as long as this process is the one whose turn it is.

        Raises:
            StoreError: another process has taken over; nothing was written.
        """
        return await asyncio.wrap_future(self.store.submit(in_turn(self.store, PLACE, work)))

    async def read(self, work: Callable[[Db], T]) -> T:
        """Read in a thread of its own what may be much."""
        return await asyncio.to_thread(lambda: work(self.store.reader()))
