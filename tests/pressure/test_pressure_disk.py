"""D2: the disk fills in the middle of a wave: pushes are 503, nothing is acknowledged that is not kept, it goes on alone."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from support.daemon import Daemon, idsync
from support.endpoint import Client, Got
from support.gateway import Gateway, Holder
from support.settings import TOKEN, write_settings
from support.waiting import until

from idsync.store import jobs
from idsync.store.opening import read_only

from .program import Program

CROWD = 12
TAKEN = 4
"""Leavers who are pushed before the disk is full."""
LARGE = "x" * 100_000
MOMENT = 0.3
"""Seconds in which nobody is to begin anything while the disk is filled."""
LEASE = 60.0
"""Seconds after which a job is taken up again whose end could not be written down."""


class Disk(Protocol):
    """Where the store lies. `daemon` is the process that is to meet the end of it."""

    folder: Path

    def fill(self, daemon: int) -> None: ...

    def free(self, daemon: int) -> None: ...


@dataclass
class SmallDisk:
    """A file system of 16 MiB, and a file that takes what is left of it."""

    folder: Path

    def fill(self, daemon: int) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            for size in (1024 * 1024, 4096):
                try:
                    while ballast.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def free(self, daemon: int) -> None:
        (self.folder / "ballast").unlink()


@dataclass
class Limit:
    """A limit on how large the files of the process may be: no file system to mount, no privileges."""

    folder: Path
    before: tuple[int, int] = field(default=(resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def fill(self, daemon: int) -> None:
        self.before = resource.prlimit(daemon, resource.RLIMIT_FSIZE)
        log = (self.folder / "idsync.db-wal").stat().st_size
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, (log, self.before[1]))

    def free(self, daemon: int) -> None:
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, self.before)


@pytest.fixture(params=["small disk", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limit":
        yield Limit(folder)
        return
    line = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(line, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Wave:
    """People who leave, the daemon they are pushed to, and what it answered."""

    okta: Client
    holders: list[Holder]
    ids: list[str]
    answers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def founded(cls, okta: Client, gateway: Gateway) -> Wave:
        holders = [gateway.account(f"d{number:02}", None) for number in range(CROWD)]
        users = [okta.user(holder.email, emails=[{"value": holder.email, "primary": True}]) for holder in holders]
        gateway.ready()
        return cls(okta, holders, [user["id"] for user in users])

    def leave(self, *which: int) -> list[Got]:
        return [self._leave(number) for number in which]

    def _leave(self, number: int) -> Got:
        got = self.okta.patch(f"/Users/{self.ids[number]}", {"op": "replace", "path": "active", "value": False})
        self.answers[self.holders[number].user_id] = got.status
        return got

    def of(self, status: int) -> list[Holder]:
        return [holder for holder in self.holders if self.answers.get(holder.user_id) == status]

    def active(self) -> set[str]:
        """Return the accounts of those whom the daemon shows as active."""
        shown = {user_id: self.okta.get(f"/Users/{user_id}").json["active"] for user_id in self.ids}
        return {holder.user_id for holder, user_id in zip(self.holders, self.ids, strict=True) if shown[user_id]}


def tried_and_rests(url: str) -> bool:
    """Tell whether work was tried and nobody is at it: what is under way when the disk fills waits for its lease."""
    with read_only(url) as db:
        found = jobs.all_jobs(db)
    return bool(found) and not any(job.leased or job.run_at < time.time() + MOMENT for job in found)


def test_a_full_disk_refuses_keeps_what_it_took_and_goes_on_alone(tmp_path: Path, gateway: Gateway, disk: Disk) -> None:
    store: dict[str, Any] = {"url": f"sqlite:///{disk.folder / 'idsync.db'}"}
    settings = write_settings(tmp_path, gateway.sandbox.url, store=store)
    with Daemon(settings) as daemon:
        program = Program(daemon)
        process = int((disk.folder / "idsync.db.lock").read_text())
        okta = Client(program.port, TOKEN)
        wave = Wave.founded(okta, gateway)
        bystander = okta.user("bystander@example.com")["id"]
        gateway.break_with("*", status=503)
        assert {got.status for got in wave.leave(*range(TAKEN))} == {200}
        until(lambda: tried_and_rests(store["url"]), "the gateway is known to be away")

        disk.fill(process)

        def large() -> bool:
            change = {"op": "replace", "path": "title", "value": LARGE + os.urandom(8).hex()}
            return okta.patch(f"/Users/{bystander}", change).status == 503

        until(large, "the disk is full")
        answers = wave.leave(*range(TAKEN, CROWD))
        assert {got.status for got in answers} <= {200, 503}
        refused = [got for got in answers if got.status == 503]
        assert refused, "everything was taken"
        assert all(got.is_scim_error(503) and got.headers["retry-after"] for got in refused)
        assert b"disk" not in b"".join(got.raw for got in refused), "what is wrong here is nobody else's business"
        assert wave.active() == {holder.user_id for holder in wave.of(503)}
        assert (program.page("/livez")[0], program.page("/readyz")[0]) == (200, 200)
        assert "idsync_source_consecutive_errors" in program.page("/metrics", operations=True)[1]

        disk.free(process)
        gateway.mend()
        taken = wave.of(200)
        assert len(taken) >= TAKEN
        until(lambda: not any(gateway.live_keys(one.user_id) for one in taken), "what it took is done", LEASE + 30)
        for holder in taken:
            gateway.wait_until_ended(holder.user_id)
            gateway.assert_gone(holder)
        for holder in wave.of(503):
            gateway.assert_at_work(holder)
        again = [wave.holders.index(holder) for holder in wave.of(503)]
        assert {got.status for got in wave.leave(*again)} == {200}
        for holder in wave.holders:
            gateway.wait_until_ended(holder.user_id)
        daemon.assert_discreet(*(key.raw for holder in wave.holders for key in holder.keys))
        assert idsync(settings, "audit", "verify").code == 0
        assert idsync(settings, "db", "check").code == 0
        daemon.terminate()
        assert daemon.exit_code() == 0
