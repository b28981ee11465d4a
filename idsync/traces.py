"""Traces: what took how long, told to a collector outside. By default nobody is told, and nothing is loaded for it.

What is told is said here, in full: no e-mail, key, group, team, gateway id or address is among it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Departing(Protocol):
    """One run of one departure."""

    def reached(self, stage: str, at: float, seconds: float) -> None:
        """Note a stage, when it was reached (epoch seconds) and how long after the request; from any thread."""

    def stands(self, state: str, fence: str) -> None:
        """Note where the run leaves the departure, and how far its fence may be relied on; from any thread."""


class Tracer(Protocol):
    """Where spans go. It never raises and never waits."""

    @property
    def listens(self) -> bool:
        """Whether anybody is told; what is costly to say need not be said otherwise."""

    def scim_request(self, method: str, route: str, status: int, source: str, seconds: float) -> None:
        """Tell of a request that was just answered; `route` is a template without ids, `source` "" for nobody known."""

    def departure(self, departure_id: str, evidence: str, *, drill: bool) -> AbstractContextManager[Departing]:
        """Tell of a run of a departure; gateway calls within are parts of it. Of an error only its class is told."""

    def poll(self, source: str, kind: str) -> AbstractContextManager[object]:
        """Tell of a poll, likewise."""

    def gateway_call(self, operation: str, status: int | str, seconds: float) -> None:
        """Tell of a call that has just ended, if it is part of something; `operation` is a template without ids."""

    async def close(self) -> None:
        """Send what is left, for a moment; nothing is told afterwards."""


class _Nothing:
    def reached(self, stage: str, at: float, seconds: float) -> None: ...

    def stands(self, state: str, fence: str) -> None: ...


class Untraced:
    """Tells nobody."""

    listens = False

    def scim_request(self, method: str, route: str, status: int, source: str, seconds: float) -> None: ...

    def departure(self, departure_id: str, evidence: str, *, drill: bool) -> AbstractContextManager[Departing]:
        return _NOTHING

    def poll(self, source: str, kind: str) -> AbstractContextManager[object]:
        return _NOTHING

    def gateway_call(self, operation: str, status: int | str, seconds: float) -> None: ...

    async def close(self) -> None: ...


_NOTHING: AbstractContextManager[Departing] = nullcontext(_Nothing())
UNTRACED = Untraced()
