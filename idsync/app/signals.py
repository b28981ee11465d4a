"""What the process is asked for from outside while it runs: stop, read the configuration again, run a pass now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator

import structlog

log = structlog.get_logger(__name__)
STOP = (signal.SIGTERM, signal.SIGINT)


class Asked:
    """Requests that wait to be answered. Two of a kind before the answer begins are one."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.look = asyncio.Event()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note SIGHUP and SIGUSR1, also while the daemon still starts: their default is to end the process."""
        with _handled({signal.SIGHUP: self.reload.set, signal.SIGUSR1: self.look.set}):
            yield

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop in order; the second one ends the process at once."""

        def stop() -> None:
            if self.stop.is_set():
                raise SystemExit(1)
            self.stop.set()

        with _handled(dict.fromkeys(STOP, stop)):
            yield


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


async def whenever(asked: asyncio.Event, act: Callable[[], Awaitable[None]]) -> None:
    """Act each time it is asked for; what is asked for meanwhile is done once more afterwards. A fault ends nothing."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            await act()
        except Exception:
            log.exception("signal.crashed")
