"""A gateway that lies, fails, stalls or refuses us: no receipt without proof, and nobody is forgotten."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.company import LAB, Company, founded
from support.daemon import Daemon, idsync
from support.directory import mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home
from support.waiting import until

from idsync.engine.desk import EngineSettings
from idsync.errors import StoreError
from idsync.model import Lane
from idsync.store import jobs
from idsync.store.db import Db
from idsync.store.ledger import Departure

LIES = ["/key/delete", "/team/member_delete", "/user/update"]


def assert_no_receipt(home: Home, settings: Path) -> None:
    departure = home.departure("leo")
    assert departure.verified_at is None
    assert departure.state.value not in ("verified", "settled")
    told = idsync(settings, "verify", mail("leo"))
    assert (told.code, "ALIVE" in told.out) == (5, True)


@pytest.mark.parametrize("path", LIES)
def test_a_200_that_did_nothing_gets_no_receipt(gateway: Gateway, opened: Opener, path: str) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})
    gateway.break_with(path, lie=True)
    home.directory.leave("leo")
    gateway.wait_for_fault(path, 3)
    home.wait_until_idle("leo")
    assert_no_receipt(home, opened.settings)
    assert "after saying it was gone" in str(home.departure("leo").problem)
    company.assert_leo_goes_after_all(home)


def test_a_block_that_did_nothing_does_not_count_as_blocked_where_deletion_waits(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    gateway.break_with("/key/block", lie=True)
    home.directory.part("Data", "leo")
    gateway.wait_for_fault("/key/block", 3)
    home.wait_until_idle("leo")
    departure = home.departure("leo")
    assert (departure.blocked_at, departure.state.value) == (None, "fenced")
    assert gateway.answers(company.leo.keys) == {401}, "the fence holds meanwhile"
    told = idsync(opened.settings, "verify", mail("leo"))
    assert told.code == 5


def test_a_block_that_did_nothing_is_noticed_when_one_of_two_teams_is_lost(gateway: Gateway, opened: Opener) -> None:
    """No fence stands behind it there: the person is still at work."""
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    gateway.break_with("/key/block", lie=True, times=1)
    home.directory.part("Data", "leo")
    gateway.wait_for_fault("/key/block")
    home.wait_until_quiet()
    assert gateway.answers(company.leo.keys[:1]) == {401}


def test_no_read_back_no_receipt(gateway: Gateway, opened: Opener) -> None:
    """Everything is done, but the gateway cannot be asked any more."""
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/team/member_delete", delay=0.2)
    home.directory.leave("leo")
    gateway.wait_for_fault("/team/member_delete", 2)
    gateway.break_with("/team/list", status=500)
    gateway.wait_for_fault("/team/list")
    home.wait_until_idle("leo")
    assert gateway.live_keys("u-leo") == []
    assert home.departure("leo").verified_at is None
    company.assert_leo_goes_after_all(home)


@pytest.mark.parametrize("how", [{"status": 500}, {"status": 502, "body": "<html>edge</html>"}, {"drop": "before"}])
def test_while_the_gateway_is_down_pushes_are_kept_and_carried_out_later(
    gateway: Gateway, opened: Opener, how: dict[str, object]
) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("*", **how)
    home.directory.leave("leo")
    home.directory.hire("zoe", "Web")
    gateway.wait_for_fault("*", 2)
    home.wait_until_idle("leo")
    company.assert_leo_goes_after_all(home)
    gateway.wait_for_user(mail("zoe"))


@pytest.mark.parametrize("path", ["/user/update", "/key/list", "/key/block", "/key/delete", "/team/member_delete"])
@pytest.mark.parametrize("how", [{"drop": "after"}, {"status": 500, "when": "after"}, {"truncate": True}])
def test_a_lost_answer_at_any_step_is_made_good(
    gateway: Gateway, opened: Opener, path: str, how: dict[str, object]
) -> None:
    """By itself: no hand, no hurry."""
    home = opened()
    company = founded(gateway, home)
    gateway.break_with(path, times=2, **how)
    home.offboard("leo")
    company.assert_leo_is_gone()


@pytest.mark.parametrize("path", ["/user/update", "/key/block", "/key/delete", "/team/member_delete"])
def test_a_gateway_that_answers_writes_with_nothing_has_done_them(gateway: Gateway, opened: Opener, path: str) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with(path, status=204, when="after", body="")
    home.offboard("leo")
    company.assert_leo_is_gone()


def test_one_key_that_cannot_be_deleted_keeps_nobody_in_their_teams(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})
    gateway.break_with("/key/delete", status=500)
    home.directory.leave("leo")
    gateway.wait_for_fault("/key/delete")
    home.wait_until_idle("leo")
    assert gateway.teams_with(company.leo.user_id) == []
    assert home.departure("leo").verified_at is None
    company.assert_leo_goes_after_all(home)


def test_what_is_gone_is_not_deleted_again(gateway: Gateway, opened: Opener) -> None:
    """A gateway may refuse a whole call for one key it does not have."""
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})
    gateway.break_with("/key/delete", status=500, when="after", times=1)  # all three are gone
    gateway.break_with("/team/member_delete", status=500, times=2)
    before = gateway.ready()
    home.offboard("leo")
    company.assert_leo_is_gone()
    assert len(gateway.calls("/key/delete", before)) == 1


def test_a_pause_the_gateway_asks_for_is_kept(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/key/list", times=1, status=429, headers={"Retry-After": "1"})
    before = gateway.ready()
    home.offboard("leo")
    company.assert_leo_is_gone()
    (told,) = [row for row in gateway.log(before) if row["status"] == 429]
    following = [row for row in gateway.log(before) if row["n"] > told["n"] and row["caller"] == "admin"]
    assert next(row for row in following if row["t"] > told["t"] + 0.2)["t"] >= told["t"] + 1.0


def test_a_gateway_that_refuses_our_key_is_asked_rarely_and_told_of_once(opened: Opener, gateway: Gateway) -> None:
    home = opened()
    company = founded(gateway, home)
    opened.close()
    gateway.hook("options", {"admin_key": "sk-rotated-5678"})
    with Daemon(opened.settings) as daemon:
        directory = daemon.directory
        until(gateway.log, "the first pass has asked")
        directory.leave("leo")
        until(lambda: _alarms(daemon), "the alarm")
        for _ in range(5):
            directory.hire(f"n{_}", "Web")
        refused = len(gateway.log())
        assert refused <= 6
        (opened.settings.parent / "admin.key").write_text("sk-rotated-5678")
        assert idsync(opened.settings, "reconcile").code == 0
        gateway.wait_until_ended("u-leo")
        assert len(_alarms(daemon)) == 1
        daemon.assert_discreet("sk-rotated-5678", *company.all_secrets)
    assert gateway.answers(company.leo.keys) == {401}
    assert gateway.answers(company.ann.keys) == {200}


def _alarms(daemon: Daemon) -> list[dict[str, object]]:
    return [event for event in daemon.events() if event["event"] == "gateway.admin_key_refused"]


def test_revocations_go_before_grants(gateway: Gateway, opened: Opener) -> None:
    """Forty joiners wait when one person leaves; the leaver is not behind them."""
    home = opened(working=False)
    leo = gateway.account("leo", None)
    home.directory.hire("leo", "Data")
    home.work_off()
    for number in range(40):
        home.directory.hire(f"n{number:02}", "Data", "Web")
    home.directory.leave("leo")
    before = gateway.ready()
    home.work_off()
    paths = gateway.paths(before)
    assert paths.index("/key/delete") < 120 < len(paths)
    assert paths.index("/user/update") < 40
    gateway.assert_gone(leo)


def test_a_lease_nobody_gives_back_runs_out(gateway: Gateway, opened: Opener) -> None:
    """What is left of a worker whose last word the store refused."""
    home = opened(working=False)
    company = founded_at_rest(gateway, home)
    home.directory.leave("leo")
    home.write(lambda db: jobs.claim(db, Lane.REVOKE, "somebody", time.time(), 0.05, 1))
    until(lambda: _worked_off(home).verified_at, "the job is taken over", seconds=5)
    company.assert_leo_is_gone()


def _worked_off(home: Home) -> Departure:
    home.work_off()
    return home.departure("leo")


def founded_at_rest(gateway: Gateway, home: Home) -> Company:
    leo, ann = gateway.account("leo"), gateway.account("ann")
    gateway.team("lab", leo.user_id, ann.user_id)
    home.directory.hire("leo", "Data")
    home.directory.hire("ann", "Data")
    home.work_off()
    leo.keys, ann.keys = [gateway.key_of("u-leo", "data")], [gateway.key_of("u-ann", "lab")]
    company = Company(gateway, leo, ann, gateway.key_of(None, "data"))
    gateway.ready()
    return company


def test_a_person_whose_run_outlasts_its_lease_is_served_once_at_a_time(gateway: Gateway, opened: Opener) -> None:
    home = opened(engine=EngineSettings(lease=0.1))
    company = founded(gateway, home)
    gateway.break_with("/user/update", delay=0.5, times=1, match={"user_id": "u-leo"})
    before = gateway.ready()
    home.directory.leave("leo")
    gateway.wait_for_fault("/user/update")
    for number in range(4):
        home.directory.hire(f"n{number}", "Web")
        gateway.wait_for_user(mail(f"n{number}"))
    home.wait_until_verified("leo")
    assert len(gateway.calls("/user/update", before)) == 2, "the fence, and the sessions, once"
    company.assert_leo_is_gone()


def test_a_waiting_deletion_that_fails_is_no_longer_waiting(gateway: Gateway, opened: Opener) -> None:
    """Else neither the metrics nor `reconcile` tell of it."""
    home = opened(policy={"group_loss_delete_after": "0.2s"})
    founded(gateway, home)
    gateway.break_with("/key/delete", status=500)
    home.directory.part("Data", "leo")
    gateway.wait_for_fault("/key/delete")
    job = until(lambda: home.failed_job("leo"), "the deletion has failed")
    assert job is not None
    assert not job.waiting


def test_many_leavers_at_once_are_all_ended(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    crowd = company.crowd(home, 24)
    gateway.break_with("/key/*", probability=0.08, seed=7, status=500, when="after")
    gateway.break_with("/user/update", probability=0.08, seed=8, drop="after")
    for holder in crowd:
        home.directory.leave(holder.email)
    home.wait_until_verified(*(holder.email for holder in crowd))
    for holder in crowd:
        gateway.assert_gone(holder)
    company.assert_others_work()


@both_dialects
def test_in_a_wave_everybody_is_fenced_and_blocked_before_anybody_is_tidied(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    crowd = [gateway.account(f"c{number:02}", LAB, None) for number in range(40)]
    gateway.team(LAB, *(holder.user_id for holder in crowd))
    for holder in crowd:
        home.directory.hire(holder.email)
    home.work_off()
    before = gateway.ready()
    gateway.break_with("/key/list", delay=0.5, times=1)  # one of them is slow to be looked at
    for holder in crowd:
        home.directory.leave(holder.email)
    home.work_off()
    paths = gateway.paths(before, writes=True)
    first_tidied, last_blocked = paths.index("/team/member_delete"), len(paths) - 1 - paths[::-1].index("/key/block")
    assert paths.index("/key/block") > 0
    assert last_blocked < first_tidied
    assert paths[:last_blocked].count("/user/update") == len(crowd), "every fence"
    for holder in crowd:
        gateway.assert_gone(holder)


def test_a_store_that_cannot_be_read_for_a_while_keeps_nobody_from_leaving(
    gateway: Gateway, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database may go away between any two reads; the engine goes on by itself."""
    home = opened()
    company = founded(gateway, home)
    store = home.core.store
    failed: list[int] = []
    read = store.reader

    def reader() -> Db:
        if threading.current_thread().name == "idsync-home" and len(failed) < 4:
            failed.append(1)
            raise StoreError("the database does not answer")
        return read()

    monkeypatch.setattr(store, "reader", reader)
    home.core.engine.wake()
    until(lambda: len(failed) == 4, "it could not read")
    home.directory.leave("leo")
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()


def test_leases_of_a_claim_whose_answer_was_lost_are_given_back(
    gateway: Gateway, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has taken it, and said nothing: without us nobody would serve them until the lease runs out."""
    home = opened()
    company = founded(gateway, home)
    real, lost = home.core.engine._claim, threading.Event()

    async def claim(lane: Lane, limit: int) -> list[jobs.Job]:
        claimed = await real(lane, limit)
        if claimed and not lost.is_set():
            lost.set()
            raise StoreError("the connection was lost before the answer came")
        return claimed

    monkeypatch.setattr(home.core.engine, "_claim", claim)
    home.directory.leave("leo")
    home.wait_until_verified("leo")
    assert lost.is_set()
    company.assert_leo_is_gone()
