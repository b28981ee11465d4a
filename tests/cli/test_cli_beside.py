"""Beside a daemon: a command is carried out by the configuration it was meant by, or says which one counts; and faults
in what a signal asks for end nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.company import Company, founded
from support.daemon import Daemon, Done, idsync
from support.fixtures import _sandboxes, dialect, gateway  # noqa: F401
from support.gateway import Gateway
from support.home import Home
from support.settings import DATA, WEB, store_url, write_settings

from idsync.config import Config, comparable, digest, load, unlike
from idsync.config.comparing import ORDER

# ruff: noqa: F811

RICHER = {**DATA, "max_budget": 5}


@dataclass
class Place:
    daemon: Daemon
    company: Company
    settings: Path

    def idsync(self, *words: str, file: Path | None = None) -> Done:
        return idsync(file or self.settings, *words)

    def write(self, **changed: object) -> None:
        write_settings(self.settings.parent, self.company.gateway.sandbox.url, **changed)


@pytest.fixture
def place(tmp_path: Path, gateway: Gateway) -> Iterator[Place]:
    settings = write_settings(tmp_path, gateway.sandbox.url)
    with Home(settings) as home:
        company = founded(gateway, home)
    with Daemon(settings) as daemon:
        daemon.wait_for_event("pass.done")
        yield Place(daemon, company, settings)


@pytest.mark.needs_file("has a daemon that commands speak to")
def test_no_command_goes_by_another_configuration_unsaid(place: Place) -> None:
    """From an edited file to one that was taken over: nothing happens by the old one that was meant by the new one."""
    gateway = place.company.gateway
    place.write(teams=[RICHER, WEB], routero={"timeout": "3s"})
    gateway.ready()
    _what_follows_from_it_is_refused(place)
    assert gateway.paths(writes=True) == []
    gateway.ok("/team/update", {"team_id": "data", "max_budget": 7})
    _what_reads_the_file_says_so(place)
    _a_leaver_goes_all_the_same(place)
    _another_file_is_another_configuration(place)
    place.write(teams=[RICHER, WEB])
    place.daemon.signal(signal.SIGHUP)
    place.daemon.wait_for_event("config.reloaded")
    done = place.idsync("reconcile", "--json")
    assert (done.code, done.err) == (0, "")
    assert place.idsync("status", "--json").json["daemon"] == {"state": "runs", "differs": []}
    _a_second_daemon_is_told_of_the_first(place)
    _a_fault_in_what_a_signal_asks_for_ends_nothing(place)
    place.daemon.terminate()
    assert place.daemon.exit_code() == 0
    assert place.idsync("status").out.startswith("DAEMON does not run: nothing is received")


def _what_follows_from_it_is_refused(place: Place) -> None:
    for words in (("reconcile", "--dry-run"), ("reconcile",)):
        done = place.idsync(*words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.count("\n") == 1
        assert f"another configuration than {place.settings}" in done.err
        assert "they differ in routero.timeout, teams.data.max_budget" in done.err
        assert "nothing was done: restart it (systemctl restart idsync): routero would not" in done.err


def _what_reads_the_file_says_so(place: Place) -> None:
    assert place.idsync("status", "--json").json["daemon"]["differs"] == ["routero.timeout", "teams.data.max_budget"]
    place.write(teams=[RICHER, WEB])
    drift = place.idsync("drift", "--json")
    [remedy] = [one["remedy"] for one in drift.json if one["kind"] == "team setting"]
    assert remedy.startswith("let it take the file over: systemctl reload idsync")
    assert remedy.endswith("then idsync reconcile puts it back")
    for done in (drift, place.idsync("teams", "list")):
        assert "note: the running daemon goes by another configuration" in done.err
    doctor = place.idsync("doctor", "--json").json["checks"]
    [told] = [one for one in doctor if one["check"] == "daemon"]
    assert (told["severity"], told["differs"]) == ("warning", ["teams.data.max_budget"])


def _a_leaver_goes_all_the_same(place: Place) -> None:
    done = place.idsync("revoke", "leo@corp.example", "--reason", "left", "--wait", "20", "--json")
    assert (done.code, done.json["departure"]["state"]) == (0, "verified")
    assert "and this command went by its own" in done.err
    place.company.assert_leo_is_gone()


def _another_file_is_another_configuration(place: Place) -> None:
    other = place.settings.with_name("other.toml")
    other.write_text(place.settings.read_text().replace('"web"', '"shop"'))
    done = place.idsync("reconcile", "--dry-run", file=other)
    assert (done.code, f"than {other} (they differ in " in done.err, "teams.shop" in done.err) == (2, True, True)


def _a_second_daemon_is_told_of_the_first(place: Place) -> None:
    second = place.idsync("serve")
    assert (second.code, "a daemon serves from it already" in second.err) == (7, True)


def _a_fault_in_what_a_signal_asks_for_ends_nothing(place: Place) -> None:
    """The store refuses in a way nobody has foreseen; when it takes again, so does the daemon."""
    daemon, store = place.daemon, store_url(place.settings).removeprefix("sqlite:///")
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no'); END")
        db.execute("CREATE TRIGGER no_pass BEFORE UPDATE ON facts WHEN new.name = 'pass:reconcile' "
                   "BEGIN SELECT RAISE(FAIL, 'no'); END")  # fmt: skip
        place.write(teams=[{**DATA, "groups": ["Other"]}, WEB])
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_event("signal.crashed")
        daemon.signal(signal.SIGUSR1)
        daemon.wait_for_event("signal.crashed", 2)
        assert daemon.directory.send("GET", "/ServiceProviderConfig")[0] == 200
        db.execute("DROP TRIGGER no_audit")
        db.execute("DROP TRIGGER no_pass")
    passes = len([event for event in daemon.events() if event["event"] == "pass.done"])
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_event("config.reloaded", 2)
    daemon.signal(signal.SIGUSR1)
    daemon.wait_for_event("pass.done", passes + 1)


@pytest.fixture
def known(tmp_path: Path) -> Config:
    return load(str(write_settings(tmp_path, "http://127.0.0.1:9")), {}).config


def _changed(known: Config, **more: object) -> Config:
    return Config.model_validate(known.model_dump() | more)


def test_what_is_secret_and_where_it_lies_is_neither_compared_nor_told(known: Config) -> None:
    """A service is given its secrets elsewhere than a shell: deploy/idsync.service."""
    routero = known.routero.model_dump() | {"admin_key": "sk-elsewhere", "admin_key_file": "/run/credentials/key"}
    other = _changed(known, routero=routero)
    assert digest(other) == digest(known)
    told = json.dumps(comparable(other))
    assert not any(secret in told for secret in ("sk-elsewhere", "credentials", "admin.key", "source.token"))


def test_everything_else_is_compared_also_an_order(known: Config) -> None:
    turned = _changed(known, teams=[team.model_dump() for team in reversed(known.teams)])
    assert (digest(turned) == digest(known), unlike(known, comparable(turned))) == (False, [ORDER])
    richer = _changed(known, teams=[RICHER, WEB], http={"ca_file": "ca.pem"})
    assert unlike(known, comparable(richer)) == ["http.ca_file", "teams.data.max_budget"]
    assert unlike(known, comparable(known)) == []
