"""Shared keys of teams: made when missing, delivered, renewed when due; the old one ends after the new one is taken."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from support.daemon import idsync
from support.directory import mail
from support.fixtures import both_dialects
from support.home import Home
from support.settings import DATA, WEB
from support.waiting import until

from idsync.app.reload import reload
from idsync.clock import ManualClock
from idsync.keys.keeper import GIVES_WAY, Keeper, Turn
from idsync.sinks.base import Delivery, Sink
from idsync.store import exposure, ledger, teamkeys

from .ground import ALIAS, MODELS, Ground

ROTATE = {"on_member_departure": "rotate"}


def kinds(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["kind"], change["why"]) for change in result["changes"] if change["kind"].startswith("key.")]


def dry_run(home: Home) -> dict[str, Any]:
    return home.run(home.core.commands(alone=False).reconcile(dry_run=True))


@both_dialects
def test_a_key_is_made_delivered_and_then_there_is_nothing_to_do(ground: Ground) -> None:
    home = ground.open()
    dry = dry_run(home)
    assert kinds(dry) == [("key.make", "the configuration names it")]
    assert not ground.file.exists()
    assert kinds(home.reconcile()) == kinds(dry)
    (row,) = (row for row in ground.gateway.state()["keys"] if row["user_id"] is None)
    assert (row["key_alias"], row["team_id"], row["models"], row["max_budget"]) == (ALIAS, "data", MODELS, 100.0)
    assert row["expires"] is not None
    assert ground.used(ground.secret) == 200
    assert ground.file.stat().st_mode & 0o777 == 0o600
    before = ground.gateway.ready()
    assert home.reconcile()["changes"] == []
    assert ground.gateway.paths(before, writes=True) == []
    assert ground.entries(home, "key.made", "key.rotated") == [("keys", "key.made")]


@both_dialects
def test_it_is_rotated_before_it_expires(ground: Ground) -> None:
    home = ground.at_work()
    old, old_id = ground.secret, ground.shared()[ALIAS]
    home.run(home.core.gateway.update_key(old_id, duration="10d"))
    dry = dry_run(home)
    assert kinds(dry) == [("key.rotate", "expires in 10 days")]
    assert ground.secret == old
    before = ground.gateway.ready()
    home.reconcile()
    assert (ground.used(ground.secret), ground.used(old)) == (200, 401)
    assert ground.shared().keys() == {ALIAS}
    assert ground.known(home).key_id == ground.shared()[ALIAS] != old_id
    writes = [path for path in ground.gateway.paths(before, writes=True) if path.startswith("/key/")]
    assert writes == ["/key/generate", "/key/block", "/key/delete", "/key/update"], "new, then old, then its name"
    assert home.reconcile()["changes"] == []
    assert 'idsync_key_rotations_total{result="delivered"} 2.0' in home.core.metrics.text().decode()


def test_grace_lets_the_old_key_live_on_and_compromised_ends_it(ground: Ground) -> None:
    home = ground.at_work(grace="1h")
    first = ground.secret
    rotated = home.run(home.core.keeper.rotate(ALIAS, compromised=False, by="ops"))
    assert not rotated.failed
    second = ground.secret
    assert (ground.works(first), ground.works(second), first != second) == (True, True, True)
    assert home.reconcile()["changes"] == [], "its grace is not over"
    rows = idsync(ground.opened.settings, "keys", "list", "--team", "data", "--json").json
    assert [row["rotation"][:14] for row in rows if row["alias"] == ALIAS] == ["replaced; ends"]
    assert [row["rotation"][:6] for row in rows if row["managed"] == ALIAS] == ["after "]
    home.run(home.core.keeper.rotate(ALIAS, compromised=True, by="ops"))
    assert [ground.works(secret) for secret in (first, second, ground.secret)] == [False, False, True]
    assert ground.shared().keys() == {ALIAS}


# -- a leaver -----------------------------------------------------------------------------------------------------


class Service(threading.Thread):
    """Calls a model again and again with the key in the file, as a service that reads it anew for each call."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(daemon=True)
        self._ground = ground
        self._enough = threading.Event()
        self.answers: list[int] = []
        self.secrets: set[str] = set()

    def run(self) -> None:
        while not self._enough.is_set():
            secret = self._ground.secret
            self.secrets.add(secret)
            self.answers.append(self._ground.used(secret))

    def ended(self) -> list[int]:
        self._enough.set()
        self.join()
        return self.answers


@both_dialects
def test_a_leaver_has_the_key_rotated_at_once_while_a_service_goes_on(ground: Ground) -> None:
    """No pass runs, and no beat: the key is renewed as soon as the person's access has ended."""
    home = ground.at_work(ROTATE, grace="1h")
    home.core.keeper.every = 3600.0
    home.core.keeper.wake()
    assert ground.company is not None
    old = ground.secret
    service = Service(ground)
    service.start()
    since = ground.gateway.ready()
    home.offboard("leo")
    until(lambda: not ground.works(old), "the old key is dead")
    until(lambda: len(service.secrets) == 2, "the service has read the new one")
    answers = service.ended()
    assert ground.used(ground.secret) == 200
    assert answers.count(401) <= 1, "a call under way with the old key may fail; the next one has the new key"
    ground.company.assert_leo_is_gone()
    until(lambda: ground.shared().keys() == {ALIAS}, "the new key has the name of the old one")
    paths = ground.gateway.paths(since, writes=True)
    assert paths.index("/key/generate") > paths.index("/team/member_delete"), "people first"
    assert ground.gateway.calls("/v2/team/list", since) == []
    for _ in range(2):
        assert kinds(home.reconcile()) == []
    known = {key.key_id for key in exposure.listed(home.db, home.person("leo").id)}
    assert known == {ground.company.shared.id}, "another key of the team that no configuration names; not the new one"
    assert ground.entries(home, "key.rotated", "key.ended") == [("keys", "key.rotated"), ("keys", "key.ended")]


def test_a_rotation_waits_for_revocations_that_are_under_way_but_not_for_ever(ground: Ground) -> None:
    """One rotation serves all who leave together."""
    clock = ManualClock(time.time())
    home = ground.at_work(ROTATE, home={"working": False, "clock": clock}, people=False)
    for name in ("leo", "zoe", "bob"):
        home.directory.hire(name, "Data")
    home.work_off()
    home.reconcile()
    since = ground.gateway.ready()
    clock.advance(1.0)
    home.directory.leave("leo")
    home.work_off()
    home.directory.leave("zoe")
    assert home.run(home.core.keeper.beat()) is None
    home.work_off()
    assert home.run(home.core.keeper.beat()) is not None
    assert len(ground.gateway.calls("/key/generate", since)) == 1
    assert home.run(home.core.keeper.beat()) is None
    clock.advance(1.0)
    home.directory.leave("bob")
    home.work_off()
    home.directory.hire("eve", "Data")
    home.directory.leave("eve")
    assert home.run(home.core.keeper.beat()) is None
    clock.advance(GIVES_WAY)
    assert home.run(home.core.keeper.beat()) is not None
    assert len(ground.gateway.calls("/key/generate", since)) == 2


def test_whoever_moves_to_another_team_has_left_this_one(ground: Ground) -> None:
    home = ground.at_work(ROTATE, more={"policy": {"group_loss_delete_after": "0s"}}, others=[WEB])
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    old = ground.secret
    home.directory.part("Data", "leo")
    until(lambda: not ground.works(old), "the key of the team he left is rotated")
    assert ground.entries(home, "key.rotated") == [("keys", "key.rotated")]


@pytest.mark.parametrize("team", [{}, ROTATE], ids=["report", "rotate"])
def test_only_a_team_that_asks_for_it_and_a_key_from_before(ground: Ground, team: dict[str, Any]) -> None:
    """A key that is made after somebody has left is none they know; what a listing notes of it is not held against it."""
    home = ground.open(team)
    home.directory.hire("leo", "Data")
    home.wait_until_quiet()
    if team:
        home.offboard("leo")
        home.reconcile()
    else:
        home.reconcile()
        home.offboard("leo")
    secret = ground.secret
    home.reconcile()
    home.run(home.core.keeper.beat())
    assert ground.secret == secret
    assert {key.wants for key in exposure.every(home.db)} == (set() if team else {"report"})


# -- what fails ---------------------------------------------------------------------------------------------------


def test_a_sink_that_would_not_take_it_costs_no_key(ground: Ground) -> None:
    home = ground.at_work()
    old, since = ground.secret, ground.gateway.ready()
    ground.place.chmod(0o777)
    turn = home.run(home.core.keeper.rotate(ALIAS, compromised=True, by="ops"))
    assert "others may write" in turn.failed[ALIAS].what
    assert ground.gateway.calls("/key/generate", since) == []
    assert (ground.works(old), ground.secret) == (True, old)
    status = idsync(ground.opened.settings, "status")
    assert f"KEY {ALIAS} of team data is not renewed" in status.out
    listed = idsync(ground.opened.settings, "keys", "list", "--managed")
    assert (listed.code, "FAILING" in listed.out) == (1, True)
    metrics = home.core.metrics.text().decode()
    assert 'idsync_key_rotations_total{result="failed"} 1.0' in metrics
    assert "idsync_key_rotations_failing 1.0" in metrics
    ground.place.chmod(0o700)
    home.reconcile()
    assert (ground.works(old), ground.works(ground.secret)) == (False, True)
    assert ground.known(home).error is None


def test_a_sink_that_fails_gets_the_same_secret_again(ground: Ground) -> None:
    """A folder in the way of the file: the check sees nothing, the delivery fails."""
    home = ground.at_work()
    old, since = ground.secret, ground.gateway.ready()
    ground.file.unlink()
    ground.file.mkdir()
    for work in (rotate, hurry, hurry):
        turn = home.run(work(home.core.keeper))
        assert "no plain file" in turn.failed[ALIAS].what
    assert len(ground.gateway.calls("/key/generate", since)) == 1
    assert (ground.works(old), len(ground.shared())) == (True, 2)
    assert len(teamkeys.undelivered(home.db)) == 1
    ground.file.rmdir()
    home.reconcile()
    assert len(ground.gateway.calls("/key/generate", since)) == 1
    assert (ground.works(old), ground.works(ground.secret)) == (False, True)
    assert ground.shared().keys() == {ALIAS}


async def rotate(keeper: Keeper) -> Turn:
    return await keeper.rotate(ALIAS, compromised=False, by="ops")


async def hurry(keeper: Keeper) -> Turn:
    return await keeper.turn(hurry=True)


class Mute:
    """Takes the secret and says that it has failed."""

    name = "files"

    def __init__(self, real: Sink) -> None:
        self._real = real
        self.broken = True

    async def check(self) -> list[str]:
        return await self._real.check()

    async def deliver(self, delivery: Delivery) -> None:
        await self._real.deliver(delivery)
        if self.broken:
            raise RuntimeError(f"no answer to {delivery.secret.get_secret_value()}")

    async def close(self) -> None: ...


def test_a_secret_that_is_given_up_may_be_in_the_sink_until_another_one_is(ground: Ground) -> None:
    """Nobody knows whether it was taken: neither key is ended before a later one is in the sink, and there are never two."""
    home = ground.at_work()
    mute = Mute(home.core.keeper.kit.sinks["files"])
    home.core.keeper.kit.sinks["files"] = mute  # type: ignore[index]
    old = ground.secret
    turn = home.run(rotate(home.core.keeper))
    assert turn.failed[ALIAS].what.startswith("sink files failed unexpectedly (RuntimeError)")
    doubtful = ground.secret
    assert doubtful not in turn.failed[ALIAS].what
    assert (ground.works(old), ground.works(doubtful), old != doubtful) == (True, True, True)
    home.core.keeper.maker.forget()
    assert len(home.run(home.core.keeper.turn()).failed) == 1, "its next try is still to come"
    assert ground.works(doubtful)
    home.run(home.core.keeper.turn(hurry=True))
    assert (ground.works(old), ground.works(doubtful), ground.works(ground.secret)) == (True, False, True)
    assert len(ground.shared()) == 2
    mute.broken = False
    home.run(home.core.keeper.turn(hurry=True))
    assert (ground.works(old), ground.works(ground.secret)) == (False, True)
    assert ground.shared().keys() == {ALIAS}
    assert teamkeys.undelivered(home.db) == []


@pytest.mark.parametrize("drop", ["before", "after"])
def test_an_answer_that_is_lost_leaves_no_key(ground: Ground, drop: str) -> None:
    """Where none is found it may be made any moment: it is looked for again, and another one is made meanwhile."""
    home = ground.at_work()
    old = ground.secret
    ground.gateway.break_with("/key/generate", drop=drop, times=1)
    assert home.run(rotate(home.core.keeper)).failed
    assert ground.shared().keys() == {ALIAS}
    assert len(teamkeys.undelivered(home.db)) == (1 if drop == "before" else 0)
    home.reconcile()
    assert (ground.works(old), ground.works(ground.secret)) == (False, True)
    if drop == "before":
        (lost,) = teamkeys.undelivered(home.db)
        late = ground.gateway.key_of(None, "data", key_alias=lost.called)
        home.run(home.core.keeper.turn())
        assert not ground.works(late.raw)
    assert ground.shared().keys() == {ALIAS}
    assert teamkeys.undelivered(home.db) == []


def test_a_gateway_that_lies_about_the_old_key_is_told_and_tried_again(ground: Ground) -> None:
    home = ground.at_work()
    ground.gateway.break_with("/key/delete", lie=True)
    turn = home.run(rotate(home.core.keeper))
    assert turn.failed[ALIAS].alive
    assert ground.used(ground.secret) == 200
    assert len(teamkeys.ending(home.db)) == 1
    ground.gateway.mend()
    home.reconcile()
    assert ground.shared().keys() == {ALIAS}


def test_what_is_there_already_is_taken_over_only_where_the_team_says_so(ground: Ground) -> None:
    """Somebody has followed the guide; the key of another team is never taken."""
    home = ground.open()
    theirs = ground.gateway.key_of(None, "data", key_alias=ALIAS)
    refused = home.reconcile()
    assert [change["kind"] for change in refused["refused"]] == ["key.refused"]
    assert "adopt = true" in refused["failed_keys"][ALIAS]["what"]
    home = ground.open({"adopt": True}, grace="1h")
    assert [kind for kind, _ in kinds(home.reconcile())] == ["key.adopt"]
    assert ground.known(home).key_id == theirs.id
    assert kinds(home.reconcile()) == [("key.rotate", "it never expires, and is to")]
    assert (ground.works(theirs.raw), ground.works(ground.secret)) == (True, True)
    assert home.reconcile()["changes"] == []


def test_models_and_budget_that_were_changed_are_put_back_without_a_new_secret(ground: Ground) -> None:
    home = ground.at_work()
    secret = ground.secret
    home.run(home.core.gateway.update_key(ground.shared()[ALIAS], models=["mistral-large"], max_budget=9.0))
    assert [kind for kind, _ in kinds(home.reconcile())] == ["key.update"]
    (row,) = (row for row in ground.gateway.state()["keys"] if row["key_alias"] == ALIAS)
    assert (row["models"], row["max_budget"], ground.secret) == (MODELS, 100.0, secret)
    ground.gateway.ok("/key/delete", {"keys": [row["token"]]})
    assert kinds(home.reconcile()) == [("key.make", "the gateway does not have it any more")]
    assert (ground.secret != secret, ground.works(ground.secret)) == (True, True)


def test_a_gateway_that_renames_no_keys_leaves_nothing_to_do(ground: Ground) -> None:
    home = ground.open()
    ground.gateway.break_with("/key/update", status=404, body='{"detail":"Not Found"}', content_type="application/json")
    home.reconcile()
    (name,) = ground.shared()
    assert name.startswith(f"{ALIAS}.")
    again = home.reconcile()
    assert (again["changes"], again["failed_keys"]) == ([], {})
    assert ground.works(ground.secret)


def test_while_grants_are_frozen_only_what_takes_something_goes_on(ground: Ground) -> None:
    home = ground.at_work(ROTATE)
    old = ground.secret
    home.run(home.core.gateway.update_key(ground.shared()[ALIAS], duration="10d"))
    home.write(lambda db: home.core.control.freeze(db, reason="test", by="ops"))
    assert kinds(home.reconcile()) == [("key.rotate", "expires in 10 days")]
    assert ground.secret == old
    home.offboard("leo")
    until(lambda: not ground.works(old), "a leaver does not wait")
    assert ground.works(ground.secret)


def test_a_leaver_of_a_clock_that_was_ahead_costs_one_rotation(ground: Ground) -> None:
    """Their access seems to end after every key that is made from now on."""
    home = ground.at_work(ROTATE)
    home.offboard("leo")
    until(lambda: ground.entries(home, "key.ended"), "the key is rotated")
    departure, ahead = home.departure("leo"), home.core.clock.now() + 3600
    late = replace(departure, fenced_at=ahead, blocked_at=ahead, deleted_at=ahead, verified_at=ahead)
    home.write(lambda db: ledger.put_departure(db, late))
    since = ground.gateway.ready()
    for _ in range(3):
        home.run(home.core.keeper.beat())
    assert len(ground.gateway.calls("/key/generate", since)) == 1


def test_without_a_daemon_revoke_rotates_too(ground: Ground) -> None:
    ground.at_work(ROTATE)
    ground.opened.close()
    old = ground.secret
    done = idsync(ground.opened.settings, "revoke", mail("leo"), "--reason", "test")
    assert done.code == 0, done.err
    assert (ground.works(old), ground.works(ground.secret)) == (False, True)
    assert ground.secret not in done.out + done.err


def test_a_key_that_a_reload_brings_is_made_without_a_restart(ground: Ground) -> None:
    home = ground.open()
    wanted = home.core.config
    ground.opened.close()
    home = ground.opened(sinks=ground.settings()["sinks"], teams=[DATA])
    assert home.reconcile()["failed_keys"] == {}
    assert ground.shared() == {}
    home.run(reload(home.core, wanted))
    assert home.run(home.core.keeper.turn()).failed == {}
    assert ground.works(ground.secret)
