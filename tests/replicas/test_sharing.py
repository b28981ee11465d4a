"""Daemons and commands that share a database: who does what, and by whose configuration."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from functools import partial

import pytest
from support.daemon import Daemon, idsync
from support.endpoint import Client
from support.gateway import Gateway
from support.settings import DATA, TOKEN, WEB, store_url, write_settings
from support.stores import SERVER
from support.waiting import free_port, until

from idsync import config
from idsync.app import Core, opened
from idsync.engine.desk import Desk
from idsync.errors import Superseded
from idsync.model import DRILL, Lane
from idsync.store import canary as canaries
from idsync.store import jobs, ledger, people
from idsync.store.canary import Canary
from idsync.store.opening import read_only
from replicas.place import Place

pytestmark = pytest.mark.skipif(not SERVER, reason="needs a PostgreSQL: tools/with_postgres.py")


def port_of(daemon: Daemon) -> int:
    return int(daemon.scim.rpartition(":")[2].partition("/")[0])


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_what_a_web_replica_takes_in_a_worker_does_at_once(place: Place, gateway: Gateway) -> None:
    web = place.serve(place.settings("web"), "--role", "web")
    worker = place.serve(place.settings("worker"), "--role", "worker")
    leo = gateway.account("leo")
    directory = web.directory
    directory.hire("leo", "Data")
    gateway.wait_for_member("data", leo.user_id)
    leo.keys = [gateway.key_of(leo.user_id, "data"), gateway.key_of(leo.user_id, None)]
    gateway.ready()
    directory.leave("leo")
    until(place.verified, "the leaver is verified", told=worker.said)
    gateway.assert_gone(leo)
    assert worker.times_of("lead.taken")
    assert not web.times_of("lead.taken"), "a web replica polls and sweeps nothing"


def test_a_worker_answers_probes_where_others_answer_scim(place: Place) -> None:
    worker = place.serve(place.settings("worker"), "--role", "worker")
    assert {path: status_of(worker.scim + path) for path in ("/livez", "/readyz", "/scim/v2/Users")} == {
        "/livez": 200,
        "/readyz": 200,
        "/scim/v2/Users": 404,
    }
    assert all("scim" not in event for event in worker.events())


def test_a_cursor_of_one_replica_is_good_at_another(place: Place) -> None:
    one, other = place.serve(place.settings("one")), place.serve(place.settings("other"))
    clients = [Client(port_of(daemon), TOKEN) for daemon in (one, other)]
    for number in range(5):
        clients[number % 2].user(f"user-{number}@corp.example")
    found: list[str] = []
    page = clients[0].get("/Users?cursor=&count=2&attributes=userName").json
    while True:
        found += [entry["userName"] for entry in page["Resources"]]
        if "nextCursor" not in page:
            break
        clients.reverse()
        page = clients[0].get(f"/Users?cursor={page['nextCursor']}&count=2&attributes=userName").json
    assert sorted(found) == [f"user-{number}@corp.example" for number in range(5)]
    assert [client.get("/Users?count=1").json["totalResults"] for client in clients] == [5, 5]
    clients[0].user("user-5@corp.example")
    assert [client.get("/Users?count=1").json["totalResults"] for client in clients] == [6, 6]


def test_a_command_from_another_machine_is_done_by_whoever_serves(place: Place, gateway: Gateway) -> None:
    daemon = place.serve(place.settings("serving"))
    leo = gateway.account("leo", None)
    daemon.directory.hire("leo", "Data")
    gateway.wait_for_member("data", leo.user_id)
    gateway.ready()
    elsewhere = place.settings("elsewhere")
    done = idsync(elsewhere, "revoke", "leo@corp.example", "--reason", "gone", "--yes", "--wait", "20", "--json")
    assert done.code == 0, done.err
    assert done.json["departure"]["state"] in ("verified", "settled")
    gateway.assert_gone(leo)
    assert daemon.times_of("departure.verified"), "the daemon has done the work"


def test_a_command_with_another_configuration_decides_nothing(place: Place, gateway: Gateway) -> None:
    daemon = place.serve(place.settings("serving"))
    leo, ann = gateway.account("leo", None), gateway.account("ann", None)
    directory = daemon.directory
    for login in ("leo", "ann"):
        directory.hire(login, "Data")
    for holder in (leo, ann):
        gateway.wait_for_member("data", holder.user_id)
    gateway.ready()
    other = {**DATA, "groups": ["Nobody"]}
    elsewhere = place.settings("elsewhere", teams=[other, WEB], scim={"sources": [{"name": "okta"}]})
    for words in (("reconcile",), ("reconcile", "--dry-run"), ("restore", "leo@corp.example", "--reason", "x")):
        refused = idsync(elsewhere, *words)
        assert refused.code == 2, refused
        assert "teams.data.groups" in refused.err
    revoked = idsync(elsewhere, "revoke", "leo@corp.example", "--reason", "gone", "--yes", "--wait", "20")
    assert revoked.code == 0, revoked
    assert "teams.data.groups" in revoked.err
    gateway.assert_gone(leo)
    gateway.assert_at_work(ann, "data")
    directory.hire("zoe")  # the token of the daemon's file still counts
    with read_only(store_url(elsewhere)) as db:
        assert ledger.holds(db) == []
        assert [job for job in jobs.all_jobs(db) if not job.waiting] == []


def test_a_drill_is_begun_by_a_command_beside_a_replica(place: Place, gateway: Gateway) -> None:
    server = {"port": free_port(), "ops_port": 0}
    place.serve(place.settings("serving", server=server))
    drilled = idsync(place.settings("elsewhere", server=server), "drill", "--json")
    assert drilled.code == 0, drilled
    assert drilled.json["ok"]


def test_the_canary_of_a_drill_that_another_process_holds_is_left_to_it(place: Place) -> None:
    asked = config.load(str(place.settings("one")), {}).config
    canary = Canary("idsync-drill-x@idsync.example", DRILL)

    async def left_after_a_beat(core: Core) -> list[Canary]:
        await core.drills("http://127.0.0.1:1/scim/v2").beat(0.0)
        return canaries.every(core.store.reader())

    async def play() -> None:
        async with opened(asked) as core, opened(asked) as other:
            other.store.write(lambda db: canaries.put(db, canary, 0.0))
            assert await asyncio.to_thread(other.store.take_turn, "drill")
            assert await left_after_a_beat(core) == [canary]
            await asyncio.to_thread(other.store.end_turn, "drill")
            assert await left_after_a_beat(core) == []

    asyncio.run(play())


def test_who_has_lost_a_job_to_another_replica_writes_nothing_of_it(place: Place) -> None:
    asked = config.load(str(place.settings("one")), {}).config

    async def play() -> None:
        async with opened(asked) as core, opened(asked) as other:
            leo = core.store.write(lambda db: people.new_person(db, "leo", 0.0))
            core.store.write(lambda db: jobs.open_job(db, leo, Lane.REVOKE, 0, 0.0))
            for now, name in enumerate((core.store.name, other.store.name), 1):
                core.store.write(partial(jobs.claim, lane=Lane.REVOKE, owner=name, now=now, lease=0.5, limit=1))
            parts = (core.clock, core.engine.rules, core.engine.settings, core.engine.telemetry, leo, 0)
            with pytest.raises(Superseded):
                await Desk(core.store, core.gateway, *parts).write(lambda db: people.name_again(db, leo, "written"))
            assert await Desk(other.store, other.gateway, *parts).write(lambda db: "written") == "written"

    asyncio.run(play())


def test_who_was_judged_by_old_rules_is_judged_anew_once_all_replicas_have_the_new_ones(
    place: Place, gateway: Gateway
) -> None:
    files = [place.settings(name) for name in ("one", "other")]
    one, other = (place.serve(file) for file in files)
    directory, leo = one.directory, gateway.account("leo", None)
    directory.hire("ann", "Crew")
    changed = [{**DATA, "groups": ["Crew"]}, WEB]
    write_settings(files[0].parent, gateway.sandbox.url, store={"url": place.url}, teams=changed)
    one.signal(signal.SIGHUP)
    one.wait_for_event("config.reloaded")
    directory.at(other.scim).hire("leo", "Crew")  # judged by rules in which the group gives nothing
    write_settings(files[1].parent, gateway.sandbox.url, store={"url": place.url}, teams=changed)
    other.signal(signal.SIGHUP)
    other.wait_for_event("config.reloaded")
    gateway.wait_for_member("data", leo.user_id)
