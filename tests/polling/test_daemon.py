"""The daemon polls by itself, and a command beside it goes through it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.daemon import Daemon, idsync
from support.editor import refuse_fact
from support.gateway import Gateway
from support.settings import store_url, write_settings
from support.waiting import until

from idsync.store import facts
from idsync.store.opening import read_only
from polling.test_idps import PEOPLE, OktaSite, Site, site

__all__ = ["site"]
LEO = f"{PEOPLE[0]}@corp.example"


@pytest.mark.parametrize("site", ["okta"], indirect=True)
def test_the_daemon_polls_and_a_command_beside_it_goes_through_it(gateway: Gateway, site: Site, tmp_path: Path) -> None:
    table = {**site.table(tmp_path), "every": "1h", "log_every": "1h"}
    protected = [{"match": "old@corp.example", "reason": "was needed once", "expires": "2020-01-01"}]
    settings = write_settings(
        tmp_path, gateway.sandbox.url, scim={"sources": []}, sources={"okta": [table]}, protected=protected
    )
    settings.write_text(settings.read_text().replace('expires = "2020-01-01"', "expires = 2020-01-01"))
    with Daemon(settings) as daemon:
        until(lambda: gateway.users_called(LEO), "the daemon has polled by itself")
        leo = gateway.users_called(LEO)[0]["user_id"]
        until(lambda: gateway.teams_with(leo) == ["data", "web"], "it has put them into their teams")
        key = gateway.key_of(leo, "data")
        gateway.ready()
        assert isinstance(site, OktaSite)
        site.act("deactivate", user=LEO)
        done = idsync(settings, "reconcile", "--source", "poll", "--json")
        assert [loss["state"] for loss in json.loads(done.out)["polls"][0]["losses"]] == ["done"]
        until(lambda: gateway.answers([key]) == {401}, "their key is refused")
        shown = idsync(settings, "status")
        assert "everybody listed" in shown.out
        assert "old@corp.example: expired on 2020-01-01" in shown.out
        daemon.assert_discreet(key.raw, "sk-admin-1234", (tmp_path / "okta.token").read_text())
        _a_poll_that_ends_in_a_fault_stops_nothing_else(daemon)
    with read_only(store_url(settings)) as db:
        assert facts.get(db, "progress:poll") is None


def _a_poll_that_ends_in_a_fault_stops_nothing_else(daemon: Daemon) -> None:
    passes = len([event for event in daemon.events() if event["event"] == "pass.done"])
    refuse_fact(store_url(daemon.settings), "polled:poll")
    daemon.signal(signal.SIGUSR1)
    daemon.wait_for_event("poll.crashed")
    daemon.wait_for_event("pass.done", passes + 1)
