"""The narrow waist under every SQL function: named parameters in, rows out; and what every store can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from idsync.clock import Clock

T = TypeVar("T")
Row = Mapping[str, Any]


class Db(Protocol):
    """An open connection: read-only, or inside the writer's transaction."""

    @property
    def shared(self) -> bool:
        """True: other processes write as well, and audit entries are linked into the chain after their commit."""

    def execute(self, sql: str, /, **params: Any) -> int:
        """Run one statement and return the number of rows it changed."""

    def one(self, sql: str, /, **params: Any) -> Row | None:
        """Return the first row, or None."""

    def all(self, sql: str, /, **params: Any) -> Sequence[Row]:
        """Return every row."""

    def snapshot(self) -> AbstractContextManager[Db]:
        """Return a connection that reads everything as of one instant; inside a transaction that is this one."""

    def operation(self) -> AbstractContextManager[Db]:
        """Return a connection whose writes are undone, and no others, when the block is left by an error."""

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once this transaction is on disk; never when it is undone. It may run on any thread."""

    def on_undo(self, call: Callable[[], None]) -> None:
        """Run `call` when this piece of work is undone, before anything is written after it or once more."""


class Store(Protocol):
    """What keeps everything: a file of this process alone, or a database that several processes share."""

    @property
    def name(self) -> str:
        """This process among those that share the store: the owner of the jobs it works on."""

    @property
    def path(self) -> Path | None:
        """The file it is, None where it is a database."""

    @property
    def shared(self) -> bool:
        """Tell whether other processes may use it at the same time."""

    @property
    def leads(self) -> bool:
        """Tell whether this process does what one alone is to do: polls, sweeps, full passes, rotations."""

    def tell(self) -> None:
        """Say to other processes that there is work, after what is written now is committed. It may get lost."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on a thread, when another process says that there is work."""

    @property
    def retries(self) -> int:
        """How many transactions were begun again because one of another process was in their way."""

    def take_turn(self, place: str) -> bool:
        """Take what one process alone does at a time, as long as it lives; False: another one has it. Not for a loop."""

    def end_turn(self, place: str) -> None:
        """Let others take a place. Not for an event loop."""

    def clock(self, own: Clock) -> Clock:
        """Return the clock by which everybody who shares it tells the time: this machine's, or the database's."""

    def open(self) -> None:
        """Make it ready for use, its schema of this release.

        Raises:
            StoreBusy: another process holds it.
            StoreError: it is damaged, cannot be reached or written, or is of a newer release.
        """

    def close(self) -> None:
        """Finish the writes already accepted and let go of it."""

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        """Queue a write; the future resolves after it is on disk, or with what `run` raised after it was undone.

        `run` may be called again after everything it wrote was undone: it keeps nothing outside the store.
        """

    def write(self, run: Callable[[Db], T]) -> T:
        """Write and wait. Not for an event loop."""

    def reader(self) -> Db:
        """Return a connection of this thread that only reads.

        Raises:
            StoreError: the store is closed, or cannot be read.
        """


@dataclass(frozen=True)
class Inspection:
    """What a check of the whole store found, in lines for people."""

    sound: bool
    lines: tuple[str, ...]
