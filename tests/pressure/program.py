"""The daemon as an outsider and its operator see it: clients of three sources, its process, its metrics, its store."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support.daemon import Daemon
from support.endpoint import Client
from support.settings import store_url, write_settings

from idsync.store.db import Db, Store
from idsync.store.opening import read_only, store_of

SOURCES = ("okta", "entra", "exact")
"""The last one is strict."""


def secret_of(source: str) -> str:
    return f"secret-of-{source}-0123456789abcdef"


def write_site(folder: Path, gateway: str) -> Path:
    """Write a configuration with a token for each source."""
    for source in SOURCES:
        (folder / f"{source}.token").write_text(secret_of(source))
    sources = [
        {"name": source, "token_file": str(folder / f"{source}.token"), "strict": source == "exact"}
        for source in SOURCES
    ]
    return write_settings(folder, gateway, scim={"sources": sources})


@contextmanager
def store_before(settings: Path) -> Iterator[Store]:
    """Open the store of a daemon that is not running yet."""
    store = store_of(store_url(settings))
    store.open()
    try:
        yield store
    finally:
        store.close()


@dataclass(frozen=True)
class Program:
    """A running daemon, and the ports of replicas beside it."""

    daemon: Daemon
    replicas: tuple[int, ...] = ()

    @property
    def port(self) -> int:
        return urlsplit(self.daemon.scim).port or 0

    def client(self, source: str) -> Client:
        return Client(self.port, secret_of(source), others=self.replicas)

    def page(self, path: str, *, operations: bool = False) -> tuple[int, str]:
        """Return status and text of a page outside SCIM."""
        address = urlsplit(self.daemon.operations if operations else self.daemon.scim).netloc
        connection = http.client.HTTPConnection(address, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def counted(self) -> dict[str, float]:
        """Return how many SCIM requests were answered, by the labels of the metric."""
        lines = self.page("/metrics", operations=True)[1].splitlines()
        found = [line.rpartition(" ") for line in lines if line.startswith("idsync_scim_requests_total{")]
        return {labels: float(value) for labels, _, value in found}

    @contextmanager
    def store(self) -> Iterator[Db]:
        """Look into the store beside the daemon."""
        with read_only(store_url(self.daemon.settings)) as db:
            yield db

    # -- the process ------------------------------------------------------------------------------------------------

    @property
    def process(self) -> Path:
        """Return what the kernel tells of the process."""
        return Path("/proc", str(self.daemon.pid))

    def open_files(self) -> int:
        return len(list((self.process / "fd").iterdir()))

    def work(self) -> float:
        """Return the seconds its threads have computed."""
        fields = (self.process / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> int:
        """Begin to measure the peak of the memory anew, and return what is in use now, in MiB."""
        (self.process / "clear_refs").write_text("5")
        return self.memory("VmRSS")

    def memory(self, which: str = "VmHWM") -> int:
        """Return the resident memory in MiB: its peak, or another line of /proc/PID/status."""
        lines = (self.process / "status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{which}:"))
