"""A replica that stands still for a while (SIGSTOP, a paused machine), and what it does when it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from drill.ground import ground
from support.daemon import Daemon
from support.gateway import Gateway
from support.home import Home
from support.processes import usual_environment
from support.settings import DATA, WEB, store_url, write_settings
from support.stores import SERVER, SHARED
from support.waiting import until

from idsync import config
from idsync.app.reload import reload
from idsync.model import Origin
from idsync.standing import Cause
from idsync.store import facts
from idsync.store.db import Db
from idsync.store.opening import read_only
from idsync.store.postgres import PostgresStore
from replicas.place import Place

pytestmark = pytest.mark.skipif(not SERVER, reason="needs a PostgreSQL: tools/with_postgres.py")
STOPPED_IN_A_CLAIM = """
import os, signal, sys
from idsync.clock import SystemClock
from idsync.model import Lane
from idsync.store import jobs
from idsync.store.postgres import PostgresStore

store = PostgresStore(sys.argv[1])
store.open()
now = store.clock(SystemClock()).now()


def work(db):
    print("claimed", len(jobs.claim(db, Lane.REVOKE, store.name, now, 60.0, 10)), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


store.write(work)
"""
KEY = {"alias": "ds-prod", "duration": "90d", "rotate_before": "14d", "models": ["smart/balanced"], "sink": "put"}


def hired(gateway: Gateway, daemon: Daemon) -> Any:
    leo = gateway.account("leo")
    daemon.directory.hire("leo", "Data")
    gateway.wait_for_member("data", leo.user_id)
    leo.keys = [gateway.key_of(leo.user_id, "data")]
    gateway.ready()
    return leo


def test_one_that_stands_still_in_a_transaction_holds_nobody_back(place: Place, gateway: Gateway) -> None:
    web = place.serve(place.settings("web"), "--role", "web")
    with Daemon(place.settings("first")) as first:
        leo = hired(gateway, web)
        first.terminate()
        first.exit_code()
    web.directory.leave("leo")
    line = [sys.executable, "-c", STOPPED_IN_A_CLAIM, place.url]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=usual_environment()) as child:
        try:
            assert child.stdout is not None
            assert next(line for line in child.stdout if line.startswith("claimed")) == "claimed 1\n"
            second = place.serve(place.settings("second"))
            until(lambda: gateway.answers(leo.keys) == {401}, "somebody else revokes", 40.0, told=second.said)
        finally:
            child.kill()


def test_a_call_that_arrives_after_the_departure_was_settled_is_undone(
    place: Place, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is given back what they had; right before the call their replica stands still, and they leave for good."""
    changed: dict[str, Any] = {"routero": {"cache_time": "1s"}}
    files = place.settings("a", **changed), place.settings("b", **changed)
    leo = gateway.account("leo")
    with Home(files[0]) as late:
        late.directory.hire("leo", "Data")
        gateway.wait_for_member("data", leo.user_id)
        leo.keys = [gateway.key_of(leo.user_id, "data")]
        gateway.ready()
        late.directory.part("Data", "leo")
        late.wait_for("leo", "blocked")
        late.wait_until_idle("leo")
        stopped, go, real = threading.Event(), threading.Event(), late.core.gateway.update_user
        store, engine = late.core.store, late.core.engine
        assert isinstance(store, PostgresStore)

        def no_sign(_: object) -> None:
            raise psycopg.OperationalError("it stands still")

        async def nothing() -> None:
            return None

        async def update_user(user: Any, **fields: Any) -> None:
            if (fields.get("metadata") or {}).get("scim_active") is True:
                monkeypatch.setattr(store.presence, "_beat", no_sign)
                monkeypatch.setattr(engine, "_claim_all", nothing)
                stopped.set()
                await asyncio.to_thread(go.wait)
            await real(user, **fields)

        monkeypatch.setattr(late.core.gateway, "update_user", update_user)
        late.directory.join("Data", "leo")
        assert stopped.wait(10)
        with Home(files[1]) as other:
            other.directory.leave("leo")
            other.wait_for("leo", "settled")
            assert gateway.fenced(leo.user_id)
            lifts = len([call for call in gateway.log() if call["path"] == "/user/update"])
            go.set()
            until(
                lambda: len([one for one in gateway.log() if one["path"] == "/user/update"]) > lifts, "the call arrives"
            )
            until(lambda: gateway.fenced(leo.user_id), "it is undone")
            until(lambda: other.told("departure.reasserted"), "it is told")


def test_a_drill_that_lost_its_place_proves_nothing(tmp_path: Path) -> None:
    """The canary's keys are refused because another replica has removed them, and not because of the fence."""
    if not SHARED:
        pytest.skip("needs a shared store")
    with ground(tmp_path, {"routero": {"cache_time": "1s"}}, fence=False) as here:
        assert here.drill(timeout=2).json["fence"]["verdict"] == "unsupported"
        with read_only(store_url(here.settings)) as db:
            before = facts.under(db, "gateway:"), facts.get(db, "drill:last")
        calls = len(here.gateway.log())
        with here.drilling("--json") as process:
            until(lambda: any(one["path"] == "/user/update" for one in here.gateway.log()[calls:]), "it is fenced")
            process.send_signal(signal.SIGSTOP)
            with psycopg.connect(store_url(here.settings), autocommit=True) as connection:
                connection.execute("DELETE FROM leader WHERE place = 'drill'")
            here.daemon.kill()
            here.daemon.start()
            until(here.is_clear, "a replica removes the canary")
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
        assert "another process has taken over (drill)" in err
        with read_only(store_url(here.settings)) as db:
            assert (facts.under(db, "gateway:"), facts.get(db, "drill:last")) == before


def test_a_key_that_is_delivered_too_late_does_not_stay_in_the_sink(
    tmp_path: Path, place: Place, gateway: Gateway
) -> None:
    """Another replica has rotated meanwhile, and ended the key that the sink gets last."""
    put, secret, slow, begun = (tmp_path / name for name in ("put", "secret", "slow", "begun"))
    put.write_text(
        f"#!/bin/bash\nread -r S\nif [ -e {slow} ]; then rm {slow}; echo $$ > {begun}; sleep 2; fi\n"
        f'printf %s "$S" > {secret}.new && mv {secret}.new {secret}\n'
    )
    put.chmod(0o700)
    changed: dict[str, Any] = {
        "teams": [{**DATA, "keys": [KEY]}],
        "sinks": [{"name": "put", "kind": "command", "command": [str(put)]}],
    }

    def works() -> bool:
        return set(gateway.tried(secret.read_text())) == {200}

    daemon = place.serve(place.settings("daemon", **changed))
    until(lambda: secret.exists() and works(), "the first key", told=daemon.said)
    first = secret.read_text()
    slow.touch()
    line = [
        sys.executable,
        "-m",
        "idsync",
        "-c",
        str(place.settings("command", **changed)),
        "keys",
        "rotate",
        "ds-prod",
    ]
    with subprocess.Popen(line, env=usual_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        until(lambda: begun.exists() and begun.read_text().strip(), "it delivers")
        delivering = int(begun.read_text())
        for process in (command.pid, delivering):
            os.kill(process, signal.SIGSTOP)
        until(lambda: secret.read_text() != first and works(), "the daemon rotates", 60.0, told=daemon.said)
        second = secret.read_text()
        for process in (delivering, command.pid):
            os.kill(process, signal.SIGCONT)
        command.communicate(timeout=60)
        assert command.returncode == 1
    until(lambda: secret.read_text() != second, "the late key arrives")
    until(works, "a key that works is delivered after it", 60.0, told=daemon.said)


def test_one_that_was_away_during_a_pass_still_counts_in_a_change_of_rules(place: Place, gateway: Gateway) -> None:
    files = [place.settings(name) for name in ("one", "other")]
    one, other = (place.serve(file) for file in files)
    directory, leo = one.directory, gateway.account("leo", None)
    directory.hire("ann", "Crew")
    other.signal(signal.SIGSTOP)
    with psycopg.connect(place.url, autocommit=True) as connection:

        def there() -> int:
            row = connection.execute("SELECT COUNT(*) FROM replicas").fetchone()
            return int(row[0]) if row else 0

        until(lambda: there() == 1, "the other one is forgotten")
        passes = len(one.times_of("pass.done"))
        one.signal(signal.SIGUSR1)
        until(lambda: len(one.times_of("pass.done")) > passes, "a pass without it")
        other.signal(signal.SIGCONT)
        until(lambda: there() == 2, "it is back")
        said = "SELECT COUNT(*) FROM facts WHERE name LIKE 'configuration:rules:%'"
        until(lambda: connection.execute(said).fetchone() == (2,), "it says by which rules it judges")
    changed = [{**DATA, "groups": ["Crew"]}, WEB]
    write_settings(files[0].parent, gateway.sandbox.url, store={"url": place.url}, teams=changed)
    one.signal(signal.SIGHUP)
    one.wait_for_event("config.reloaded")
    directory.at(other.scim).hire("leo", "Crew")  # judged by rules in which the group gives nothing
    write_settings(files[1].parent, gateway.sandbox.url, store={"url": place.url}, teams=changed)
    other.signal(signal.SIGHUP)
    other.wait_for_event("config.reloaded")
    gateway.wait_for_member("data", leo.user_id)


def test_what_shares_a_transaction_with_a_reload_that_begins_again_is_judged_by_the_old_rules(
    place: Place, gateway: Gateway
) -> None:
    """Else what the new rules take would be taken without a hold."""
    eve = gateway.account("eve")
    file = place.settings("one")
    with Home(file) as home:
        other = PostgresStore(place.url, role="web")
        other.open()
        home.directory.hire("eve", "Data")
        gateway.wait_for_member("data", eve.user_id)
        eve.keys = [gateway.key_of(eve.user_id, "data")]
        gateway.ready()
        home.wait_until_quiet()
        core, store = home.core, home.core.store
        for name in ("x", "y"):
            store.write(partial(facts.put, name=name, value=0, at=0.0))
        teams = [{**DATA, "groups": ["Crew"]}, WEB]
        changed = write_settings(file.parent, gateway.sandbox.url, store={"url": place.url}, teams=teams)
        wanted = config.load(str(changed), {}).config
        gate, judged_by, person = threading.Event(), [], home.person("eve").id

        def in_the_way(db: Db) -> None:
            facts.get(db, "y")
            facts.put(db, "x", 1, 0.0)

        def judge(db: Db) -> None:
            facts.get(db, "x")
            facts.put(db, "y", 1, 0.0)
            core.intake.people.look_again(db, [person], Cause(Origin("okta", "poll", core.clock.now()), "listed"))
            judged_by.append([group.name for rule in core.intake.rules.rules for group in rule.groups])
            if len(judged_by) == 1:
                other.write(in_the_way)

        busy = store.submit(lambda db: gate.wait(10))
        judging = store.submit(judge)
        with home.running(reload(core, wanted)):
            until(lambda: core.reconciler.between_passes.locked(), "the reload is under way")
            home.run(asyncio.sleep(0.3))
            gate.set()
        for work in (busy, judging):
            work.result(20)
        other.close()
        assert len(judged_by) > 1, "it has begun again"
        assert all("Data" in groups for groups in judged_by)
        assert [hold.kind for hold in home.holds()] == ["configuration"]
        home.wait_until_quiet()
        assert gateway.answers(eve.keys) == {200}
