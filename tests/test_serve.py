"""`idsync serve` as a process: one per store, ends in order, answers the identity provider whatever the gateway does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page.served import Visitor
from support.company import Company, founded
from support.daemon import Daemon, idsync
from support.editor import edit
from support.fixtures import _sandboxes, dialect, gateway  # noqa: F401
from support.gateway import Gateway
from support.home import Home
from support.settings import TOKEN, store_url, write_settings
from support.waiting import until

from idsync.store import jobs, ledger
from idsync.store.opening import read_only

# ruff: noqa: F811

PARTS = {"store", "engine", "gateway", "source:okta", "audit", "beat:pass", "beat:drill", "beat:spend", "drills"}


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway) -> Path:
    return write_settings(tmp_path, gateway.sandbox.url, routero={"timeout": "1s"})


@pytest.fixture
def company(settings: Path, gateway: Gateway) -> Company:
    with Home(settings) as home:
        return founded(gateway, home)


def leases(settings: Path) -> int:
    with read_only(store_url(settings)) as db:
        return sum(job.leased for job in jobs.all_jobs(db))


def is_verified(settings: Path) -> bool:
    with read_only(store_url(settings)) as db:
        return [entry.verified_at is not None for entry in ledger.departures(db)] == [True]


def test_sigterm_in_the_middle_of_a_departure_ends_it_first(settings: Path, company: Company, gateway: Gateway) -> None:
    with Daemon(settings, fresh=True) as daemon:
        gateway.break_with("/key/block", delay=0.3)
        daemon.directory.leave("leo")
        gateway.wait_for_fault("/key/block")
        daemon.terminate()
        assert daemon.exit_code() == 0
    assert (is_verified(settings), leases(settings)) == (True, 0), daemon.said()
    company.assert_leo_is_gone()
    daemon.assert_discreet(*company.all_secrets)
    assert daemon.events()[-1]["event"] == "daemon.stopped"


def test_sigterm_while_the_gateway_hangs_leaves_the_rest_to_the_next_start(
    settings: Path, company: Company, gateway: Gateway
) -> None:
    with Daemon(settings) as daemon:
        gateway.break_with("/key/delete", hang=True)
        daemon.directory.leave("leo")
        gateway.wait_for_fault("/key/delete")
        daemon.terminate()
        assert daemon.exit_code() == 0
        assert leases(settings) == 0
        gateway.mend()
        daemon.start()
        until(lambda: is_verified(settings), "the departure is verified after the next start")
    company.assert_leo_is_gone()
    daemon.assert_discreet(*company.all_secrets)


def test_sigterm_during_the_first_pass_ends_in_order(settings: Path, gateway: Gateway) -> None:
    gateway.break_with("/user/list", hang=True)
    with Daemon(settings) as daemon:
        gateway.wait_for_fault("/user/list")
        daemon.terminate()
        assert daemon.exit_code() == 0
    daemon.assert_discreet()


@pytest.mark.needs_file("has one holder")
def test_a_second_daemon_on_the_same_store_is_refused(settings: Path, gateway: Gateway) -> None:
    with Daemon(settings) as daemon:
        second = idsync(settings, "serve")
        assert second.code == 7
        assert "another idsync process holds the store" in second.err
        assert daemon.directory.send("GET", "/ServiceProviderConfig")[0] == 200


def test_with_the_gateway_down_the_push_is_accepted_and_carried_out_later(
    settings: Path, company: Company, gateway: Gateway
) -> None:
    with Daemon(settings) as daemon:
        directory = daemon.directory
        gateway.break_with("*", drop="before", match={})
        directory.leave("leo")
        directory.hire("zoe", "Web")
        gateway.wait_for_fault("*", 3)
        company.gateway.mend()
        until(lambda: is_verified(settings), "the departure is verified once the gateway is back")
        gateway.wait_for_user("zoe@corp.example")
    company.assert_leo_is_gone()


def test_commands_work_beside_the_daemon(settings: Path, company: Company, gateway: Gateway) -> None:
    """Tokens, revoke, verify, the ledger and the status page, while the daemon holds the store."""
    with Daemon(settings) as daemon:
        made = idsync(settings, "token", "new", "okta")
        assert made.code == 0
        assert daemon.directory.send("GET", "/Users")[0] == 200
        revoked = idsync(settings, "revoke", "leo@corp.example", "--reason", "left", "--wait", "20", "--json")
        assert (revoked.code, revoked.json["departure"]["state"]) == (0, "verified")
        assert idsync(settings, "verify").code == 0
        operator = idsync(settings, "token", "new", "--operator", "ada").out.strip()
        visitor = Visitor(int(daemon.operations.rpartition(":")[2]))
        assert visitor.log_in(operator).status == 303
        assert visitor.get("/departures").says("leo@corp.example")
        assert {part["name"] for part in json.loads(visitor.get("/health").text)["components"]} >= PARTS
        daemon.assert_discreet(made.out.strip(), operator, *visitor.cookies.values(), *company.all_secrets)
        assert TOKEN not in made.out
    company.assert_leo_is_gone()


def test_a_store_that_cannot_be_read_is_told_by_health_and_metrics(settings: Path, gateway: Gateway) -> None:
    """What watches idsync gets an answer that says so, not an error that looks as if idsync were away."""
    with Daemon(settings) as daemon:
        operator = idsync(settings, "token", "new", "--operator", "ada").out.strip()
        visitor = Visitor(int(daemon.operations.rpartition(":")[2]))
        assert visitor.log_in(operator).status == 303
        edit(store_url(settings), "ALTER TABLE jobs RENAME TO elsewhere", guarded=True)
        told = json.loads(visitor.get("/health").text)
        said = visitor.get("/metrics")
        assert (told["state"], [part["state"] for part in told["components"] if part["name"] == "store"]) == (
            "failed",
            ["failed"],
        )
        assert (said.status, "idsync_store_readable 0.0" in said.text, "idsync_build_info{" in said.text) == (
            200,
            True,
            True,
        )
        assert "idsync_unverified_revocations" not in said.text
        edit(store_url(settings), "ALTER TABLE elsewhere RENAME TO jobs", guarded=True)
        assert "idsync_store_readable 1.0" in visitor.get("/metrics").text
        assert json.loads(visitor.get("/health").text)["state"] != "failed"


def test_a_credential_that_lives_on_is_told_by_verify(settings: Path, company: Company, gateway: Gateway) -> None:
    with Daemon(settings) as daemon:
        gateway.break_with("/key/delete", lie=True)
        gateway.break_with("/team/member_delete", lie=True)
        daemon.directory.leave("leo")
        gateway.wait_for_fault("/key/delete", 3)
        told = idsync(settings, "verify", "leo@corp.example")
        assert told.code == 5
        assert "ALIVE" in told.out
        (shown,) = idsync(settings, "departures", "--json").json
        assert shown["state"] not in ("verified", "settled")
        assert any(event["event"] == "revocation.not_effective" for event in daemon.events())


def test_a_hold_is_shown_and_approved_on_the_command_line(
    tmp_path: Path, settings: Path, company: Company, gateway: Gateway
) -> None:
    write_settings(tmp_path, gateway.sandbox.url, policy={"departed": "any"}, guard={"max_push_departures": 1})
    with Daemon(settings) as daemon:
        directory = daemon.directory
        for login in ("ann", "leo"):
            directory.leave(login)
        until(lambda: idsync(settings, "holds", "list", "--json").json, "a hold is shown")
        (hold,) = idsync(settings, "holds", "list", "--json").json
        assert [entry["user"] for entry in hold["people"]] == ["leo@corp.example"]
        assert gateway.live_keys("u-leo") != []
        assert idsync(settings, "holds", "approve", hold["id"], "--checksum", "0" * 16).code == 4
        assert idsync(settings, "holds", "approve", hold["id"], "--checksum", hold["checksum"]).code == 0
        until(lambda: not gateway.live_keys("u-leo"), "the keys are deleted")
        until(lambda: not gateway.teams_with("u-leo"), "the rosters are left")
    gateway.assert_gone(company.leo)


def test_revoke_works_without_a_daemon(settings: Path, company: Company, gateway: Gateway) -> None:
    done = idsync(settings, "revoke", "leo@corp.example", "--reason", "left", "--json")
    assert (done.code, done.json["departure"]["state"]) == (0, "verified")
    company.assert_leo_is_gone()
    for secret in company.all_secrets:
        assert secret not in done.out + done.err


def test_when_a_token_was_used_last_can_be_seen_after_the_exchange(settings: Path, company: Company) -> None:
    with Daemon(settings) as daemon:
        daemon.directory.find("leo")
        daemon.terminate()
        assert daemon.exit_code() == 0
    fresh = idsync(settings, "token", "new", "okta")
    assert fresh.code == 0, fresh.err
    listed = {entry["used"] is not None for entry in idsync(settings, "token", "list", "--json").json}
    assert listed == {True, False}
