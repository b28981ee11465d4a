"""A database that several daemons share."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.daemon import Daemon
from support.gateway import Gateway
from support.settings import write_settings
from support.stores import database

from idsync.store import ledger
from idsync.store.opening import read_only


class Place:
    """A database, and folders with configurations for it."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self._folder = folder
        self._gateway = gateway
        self._stack = ExitStack()
        self.url = database(folder / "idsync.db")

    def settings(self, name: str, **changed: Any) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return write_settings(folder, self._gateway.sandbox.url, store={"url": self.url}, **changed)

    def serve(self, settings: Path, *words: str) -> Daemon:
        return self._stack.enter_context(Daemon(settings, words=words))

    def verified(self) -> int:
        with read_only(self.url) as db:
            return sum(one.verified_at is not None for one in ledger.departures(db))

    def close(self) -> None:
        self._stack.close()
