"""kill -9 at every kind of step of a leaver: started again on the same store, idsync ends what it began."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.company import Company, founded
from support.daemon import Daemon, idsync
from support.gateway import Gateway
from support.home import Home
from support.settings import store_url, write_settings
from support.waiting import until

from crash.size import FULL
from idsync.audit import first_break
from idsync.store import jobs, journal, ledger
from idsync.store.opening import read_only

HANG: dict[str, Any] = {"hang": True}
UNANSWERED: dict[str, Any] = {"drop": "after"}
"""The gateway has done it, and idsync will never know."""


@dataclass(frozen=True)
class Step:
    """A call of a leaver's run, and how it is kept from ending.

    `skip` lets so many of its kind pass first; `after` names a call that has to be met before this one counts.
    """

    name: str
    path: str
    how: dict[str, Any] = field(default_factory=lambda: HANG)
    skip: int = 0
    after: str = ""

    def wait(self, gateway: Gateway) -> None:
        """Wait until the departure is at this step, and stays there."""
        if self.after:
            gateway.wait_for_fault(self.after)
            self.arm(gateway)
        gateway.wait_for_fault(self.path)

    def arm(self, gateway: Gateway) -> None:
        gateway.break_with(self.path, skip=self.skip, **self.how)

    def prepare(self, gateway: Gateway) -> None:
        """Before the push; a call that counts only after another one is armed while that one is slow."""
        if self.after:
            gateway.break_with(self.after, delay=0.15)
        else:
            self.arm(gateway)


STEPS = [
    Step("first look at the user", "/v2/user/info"),
    Step("fence not written", "/user/update"),
    Step("fence written, answer lost", "/user/update", UNANSWERED),
    Step("look at the fence", "/v2/user/info", after="/user/update"),
    Step("listing of keys", "/key/list"),
    Step("first block", "/key/block"),
    Step("second block", "/key/block", skip=1),
    Step("blocks written, answers lost", "/key/block", UNANSWERED),
    Step("deletion not written", "/key/delete"),
    Step("deletion written, answer lost", "/key/delete", UNANSWERED),
    Step("first roster not written", "/team/member_delete"),
    Step("second roster not written", "/team/member_delete", skip=1),
    Step("rosters written, answers lost", "/team/member_delete", UNANSWERED),
    Step("user read back", "/v2/user/info", after="/team/member_delete"),
    Step("keys read back", "/key/list", after="/team/member_delete"),
    Step("rosters read back", "/team/list", after="/team/member_delete"),
    Step("a deleted key asked for by id", "/key/info"),
    Step("the last deleted key asked for by id", "/key/info", skip=2),
]


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway) -> Path:
    return write_settings(tmp_path, gateway.sandbox.url)


@pytest.fixture
def company(settings: Path, gateway: Gateway) -> Company:
    """Leo and Ann are at work, and idsync is not running."""
    with Home(settings) as home:
        return founded(gateway, home)


def is_verified(settings: Path, people: int = 1) -> bool:
    """Look into the ledger beside the daemon."""
    with read_only(store_url(settings)) as db:
        return sum(entry.verified_at is not None for entry in ledger.departures(db)) >= people


def shown(settings: Path) -> dict[str, Any]:
    """Return the only departure as the command shows it."""
    (view,) = idsync(settings, "departures", "--json").json
    return dict(view)


def open_jobs(settings: Path) -> list[jobs.Job]:
    with read_only(store_url(settings)) as db:
        return [job for job in jobs.all_jobs(db) if not job.waiting]


def wait_until_verified(settings: Path) -> None:
    until(lambda: is_verified(settings), "the departure is verified")


def assert_nothing_was_lost(settings: Path, company: Company, daemon: Daemon) -> None:
    company.assert_leo_is_gone()
    daemon.assert_discreet(*company.all_secrets)
    with read_only(store_url(settings)) as db:
        assert first_break(journal.events(db)) is None


MEMBERSHIPS = [
    Step("membership noted, not ended", "/organization/member_delete"),
    Step("membership ended, answer lost", "/organization/member_delete", UNANSWERED),
    Step("membership read back", "/user/info", skip=1),
]
"""The last calls of a leaver, at the second look."""
TRIED = STEPS if FULL else STEPS[1::2]
"""`make crash` dies at every one of them; every point of a process is also in test_points.py."""


@pytest.mark.parametrize("step", TRIED, ids=lambda step: step.name)
def test_a_daemon_killed_at_a_step_ends_the_departure_after_its_restart(
    settings: Path, company: Company, gateway: Gateway, step: Step
) -> None:
    with Daemon(settings) as daemon:
        gateway.wait_for_first_pass()
        step.prepare(gateway)
        daemon.directory.leave("leo")
        step.wait(gateway)
        daemon.kill()
        gateway.mend()
        daemon.start()
        wait_until_verified(settings)
        assert_nothing_was_lost(settings, company, daemon)


@pytest.mark.parametrize("confined", ["", "org-default"], ids=["anywhere", "confined"])
@pytest.mark.parametrize("step", MEMBERSHIPS, ids=lambda step: step.name)
@pytest.mark.parametrize("dialect", ["routero"], indirect=True)
def test_a_daemon_killed_at_the_last_step_knows_after_its_restart_what_to_give_back(
    tmp_path: Path, gateway: Gateway, dialect: str, step: Step, confined: str
) -> None:
    routero = {"dialect": dialect, "cache_time": "0.1s", "organization_id": confined}
    settings = write_settings(tmp_path, gateway.sandbox.url, routero=routero)
    with Home(settings) as home:
        company = founded(gateway, home)
    was = gateway.organizations_of(company.leo.user_id)
    with Daemon(settings) as daemon:
        gateway.wait_for_first_pass()
        step.prepare(gateway)
        directory = daemon.directory
        directory.leave("leo")
        step.wait(gateway)
        daemon.kill()
        gateway.mend()
        daemon.start()
        until(lambda: shown(settings)["state"] == "settled", "the departure is settled")
        assert (gateway.organizations_of(company.leo.user_id), len(was)) == ({}, 1)
        assert shown(settings)["receipt"]["organizations"] == list(was)
        assert_nothing_was_lost(settings, company, daemon)
        directory.at(daemon.scim).come_back("leo")
        until(lambda: gateway.organizations_of(company.leo.user_id) == was, "the membership is given back")
        until(lambda: not open_jobs(settings), "nothing is left to do")
        gateway.assert_at_work(company.ann, "data", "lab")
        assert "data" in gateway.teams_with(company.leo.user_id)


@pytest.mark.parametrize(("path", "how"), [("/user/update", UNANSWERED), ("/key/unblock", HANG), ("/team/info", HANG)])
def test_a_daemon_killed_while_it_gives_back_gives_back_after_its_restart(
    tmp_path: Path, settings: Path, company: Company, gateway: Gateway, path: str, how: dict[str, Any]
) -> None:
    """Leo was dropped from his last group and is put back before his keys were due."""
    write_settings(tmp_path, gateway.sandbox.url, policy={"group_loss_delete_after": "1h"})
    with Home(settings) as home:
        home.directory.part("Data", "leo")
        home.wait_for("leo", "blocked")
    with Home(settings, working=False) as home:
        home.directory.join("Data", "leo")
    gateway.break_with(path, **how)
    with Daemon(settings) as daemon:
        gateway.wait_for_fault(path)
        daemon.kill()
        gateway.mend()
        daemon.start()
        until(lambda: not open_jobs(settings), "nothing is left to do")
        gateway.assert_at_work(company.leo, "data", "lab")
        company.assert_others_work()


def test_a_daemon_killed_right_after_its_2xx_has_not_forgotten(
    settings: Path, company: Company, gateway: Gateway
) -> None:
    with Daemon(settings) as daemon:
        gateway.break_with("*", drop="before")
        daemon.directory.leave("leo")
        daemon.kill()
        gateway.mend()
        daemon.start()
        wait_until_verified(settings)
        assert_nothing_was_lost(settings, company, daemon)
        (shown,) = idsync(settings, "departures", "--json").json
        assert (shown["user"], shown["state"]) == ("leo@corp.example", "verified")
        assert {key["id"] for key in shown["receipt"]["keys"]} == {key.id for key in company.leo.keys}
        assert idsync(settings, "audit", "verify").code == 0
        assert idsync(settings, "verify").code == 0


def test_kills_at_any_instant_of_a_wave_lose_nobody(settings: Path, company: Company, gateway: Gateway) -> None:
    """Thirty people leave while the daemon is killed again and again, each time some calls further on."""
    with Home(settings, working=False) as home:
        crowd = company.crowd(home, 30)
    with Daemon(settings) as daemon:
        directory = daemon.directory
        for holder in crowd:
            directory.find(holder.email)
        for holder in crowd[:20]:
            directory.leave(holder.email)
        for further in (7, 40, 90, 25, 60):
            gateway.wait_for_calls(further + 1, unless=lambda: is_verified(settings, 20))
            daemon.kill()
            daemon.start()
        push = directory.at(daemon.scim)
        for holder in crowd[20:]:
            push.leave(holder.email)
        until(lambda: is_verified(settings, 30), "everybody is verified")
        for holder in crowd:
            gateway.assert_gone(holder)
        company.assert_others_work()
        daemon.assert_discreet(*company.all_secrets)
    assert idsync(settings, "audit", "verify").code == 0
