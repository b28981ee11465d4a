"""A sink whose deliveries are counted."""

from __future__ import annotations

from collections.abc import Callable

from idsync.sinks.base import Delivery, Sink


class Counted:
    """Tells `note` after each delivery the sink's name and whether it has taken the secret."""

    def __init__(self, sink: Sink, note: Callable[[str, bool], None]) -> None:
        self.name = sink.name
        self._sink = sink
        self._note = note

    async def check(self) -> list[str]:
        return await self._sink.check()

    async def deliver(self, delivery: Delivery) -> None:
        try:
            await self._sink.deliver(delivery)
        except BaseException:
            self._note(self.name, False)
            raise
        self._note(self.name, True)

    async def close(self) -> None:
        await self._sink.close()
