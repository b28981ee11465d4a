"""The whole program with a gateway: the last commit decides about the keys, and no push waits for the gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, beside
from support.directory import SCHEMAS, ScimDirectory, mail
from support.endpoint import PATCH_OP, Client
from support.gateway import Gateway, Holder
from support.settings import TOKEN, store_url, write_settings
from support.waiting import until

from idsync.model import DepartureState
from idsync.store import jobs, ledger
from idsync.store.opening import read_only

from .crowd import at_once, version
from .line import Line
from .program import Program

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
TEAM = "data"
UNGUARDED = {"max_push_departures": 100_000}


class Site:
    """A daemon, the directory that pushes to it and the gateway it works on."""

    def __init__(self, daemon: Daemon, gateway: Gateway, replicas: tuple[int, ...] = ()) -> None:
        self.daemon = daemon
        self.gateway = gateway
        self.directory = daemon.directory
        self.client = Client(Program(daemon).port, TOKEN, others=replicas)

    def hire(self, *logins: str) -> list[Holder]:
        """Give each an account, a place in the team, and keys in it and in none."""
        holders = [self.gateway.account(login) for login in logins]
        for login in logins:
            self.directory.hire(login, "Data")
        for holder in holders:
            self.gateway.wait_for_member(TEAM, holder.user_id)
        for holder in holders:
            self.give_keys(holder)
        self.gateway.ready()
        return holders

    def give_keys(self, holder: Holder) -> None:
        holder.keys = [self.gateway.key_of(holder.user_id, team) for team in (TEAM, None)]

    def wait_until_quiet(self) -> None:
        until(lambda: not self.open_jobs(), "nothing is left to do", told=self.open_jobs)

    def open_jobs(self) -> list[jobs.Job]:
        """Return the jobs that do not just wait for a second look."""
        with read_only(store_url(self.daemon.settings)) as db:
            return [job for job in jobs.all_jobs(db) if not job.waiting]

    def wait_for_calls(self, further: int) -> None:
        """Wait until the gateway has been called so many times more, or nothing is left to do."""
        self.gateway.wait_for_calls(further, unless=lambda: not self.open_jobs())

    def verified(self) -> int:
        with read_only(store_url(self.daemon.settings)) as db:
            row = db.one("SELECT COUNT(*) AS n FROM departures WHERE verified_at IS NOT NULL")
        return int(row["n"]) if row else 0

    def last_departures(self) -> dict[str, ledger.Departure]:
        """Return the newest departure of everybody, by name; nobody's is open."""
        with read_only(store_url(self.daemon.settings)) as db:
            entries = sorted(ledger.departures(db), key=lambda entry: entry.accepted_at)
        assert all(entry.closed_at is not None for entry in entries)
        return {entry.label: entry for entry in entries}

    def assert_back(self, holder: Holder) -> None:
        """At work again: in the team, not fenced, and with all keys or, once one was deleted, with none."""
        assert TEAM in self.gateway.teams_with(holder.user_id)
        assert not self.gateway.fenced(holder.user_id)
        left = [key for key in holder.keys if self.gateway.exists(key)]
        assert left in ([], holder.keys)
        assert self.gateway.answers(left) <= {200}
        assert self.gateway.answers([key for key in holder.keys if key not in left]) <= {401}


@contextmanager
def running(folder: Path, gateway: Gateway, url: str | None = None, **changed: Any) -> Iterator[Site]:
    settings = write_settings(folder, url or gateway.sandbox.url, **changed)
    with Daemon(settings) as daemon, beside(settings) as replicas:
        yield Site(daemon, gateway, replicas)
        daemon.assert_discreet()


# -- C2, C6: true and false ---------------------------------------------------------------------------------------------


def flip(client: Client, user_id: str, active: bool, *, in_bulk: bool) -> tuple[int, bool | None]:
    """Set `active`; return the version that is answered, and `active` as it is told with it (a bulk request does not)."""
    operation = {"op": "replace", "path": "active", "value": active}
    if not in_bulk:
        got = client.patch(f"/Users/{user_id}", operation)
        assert got.status == 200, got.raw
        return version(got.headers["etag"]), got.json["active"]
    data = {"schemas": [PATCH_OP], "Operations": [operation]}
    request = {"method": "PATCH", "path": f"/Users/{user_id}", "data": data}
    got = client.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [request]})
    (told,) = got.json["Operations"]
    assert told["status"] == "200", got.raw
    return version(told["version"]), None


def race(client: Client, user_id: str, seed: int) -> bool:
    """Let sixteen clients set true and false; return what the last commit said, by the versions that were answered."""

    def push(number: int) -> list[tuple[int, bool | None]]:
        chance = random.Random(seed * 100 + number)
        return [flip(client, user_id, chance.random() < 0.5, in_bulk=number % 4 == 0) for _ in range(15)]

    answers = {answer for answers in at_once(push) for answer in answers}
    said = {number: active for number, active in answers if active is not None}
    assert len(said) == sum(active is not None for _, active in answers), "one version, one state"
    changes = sorted(said)
    assert all(said[one] is not said[other] for one, other in pairwise(changes) if other == one + 1)
    last = max(number for number, _ in answers)
    got = client.get(f"/Users/{user_id}")
    assert version(got.headers["etag"]) == last
    active: bool = got.json["active"]
    assert said.get(last, active) is active
    return active


def test_after_a_race_of_true_and_false_the_keys_agree_with_the_last_commit(tmp_path: Path, gateway: Gateway) -> None:
    with running(tmp_path, gateway, guard=UNGUARDED) as site:
        (leo,) = site.hire("leo")
        user_id = site.directory.ids["leo"]
        for turn in range(4):
            active = race(site.client, user_id, turn)
            for further in (active, not active, active):
                flip(site.client, user_id, further, in_bulk=False)
                site.wait_until_quiet()
                if further:
                    site.assert_back(leo)
                else:
                    gateway.assert_gone(leo)
            site.directory.come_back("leo")
            site.wait_until_quiet()
            site.give_keys(leo)
            gateway.hook("warm")


def test_one_person_who_flaps_is_not_a_mass_departure(tmp_path: Path, gateway: Gateway) -> None:
    """With the usual guard: neither they nor whoever leaves after them waits for an approval."""
    with running(tmp_path, gateway) as site:
        leo, ann = site.hire("leo", "ann")
        for turn in range(2 * 60):
            flip(site.client, site.directory.ids["leo"], turn % 2 == 1, in_bulk=False)
        site.directory.leave("leo")
        site.directory.leave("ann")
        site.wait_until_quiet()
        gateway.assert_gone(leo)
        gateway.assert_gone(ann)


def test_a_return_while_the_revocation_is_queued_gives_all_back_or_no_key(tmp_path: Path, gateway: Gateway) -> None:
    """Cancelled before anything was deleted: every key works. Else: the team, and no key. Nothing in between."""
    with running(tmp_path, gateway, guard=UNGUARDED) as site:
        crowd = [f"p{number:02}" for number in range(24)]
        holders = site.hire(*crowd)
        gateway.hook("options", {"latency": 0.002})
        outcomes = set()
        for turn in range(4):

            def come_and_go(number: int, turn: int = turn) -> None:
                chance = random.Random(turn * 1000 + number)
                for login in crowd[number::4]:
                    site.directory.leave(login)
                    site.wait_for_calls(chance.randrange(40))
                    site.directory.come_back(login)

            at_once(come_and_go, 4)
            site.wait_until_quiet()
            last = site.last_departures()
            for holder in holders:
                site.assert_back(holder)
                kept = gateway.exists(holder.keys[0])
                assert kept or last[holder.email].state is not DepartureState.CANCELLED
                outcomes.add(kept)
                if not kept:
                    site.give_keys(holder)
            gateway.ready()
        assert outcomes == {True, False}, "both outcomes were met"


# -- G1, G2: the gateway is away --------------------------------------------------------------------------------------------


def push_everything(site: Site) -> None:
    """Push one change of every kind; each has to be answered 2xx."""
    directory = site.directory
    directory.hire("zoe", "Data")
    user = {"schemas": [f"{SCHEMAS}User"], "userName": mail("zoe"), "externalId": "x-zoe", "title": "new",
            "emails": [{"value": mail("zoe")}]}  # fmt: skip
    directory.push("PUT", f"/Users/{directory.ids['zoe']}", user)
    directory.leave("leo")
    directory.push("DELETE", f"/Users/{directory.ids['mia']}")
    directory.join("Web", "ann")
    leaving = [{"op": "remove", "path": f'members[value eq "{directory.ids["ann"]}"]'}]
    directory.push("PATCH", f"/Groups/{directory.ids['Data']}", {"schemas": [PATCH_OP], "Operations": leaving})
    joiner = {**user, "userName": mail("bob"), "externalId": "x-bob", "emails": [{"value": mail("bob")}]}
    joined = {"schemas": [PATCH_OP], "Operations": [{"op": "add", "path": "members", "value": [{"value": "bulkId:b"}]}]}
    operations = [
        {"method": "POST", "path": "/Users", "bulkId": "b", "data": joiner},
        {"method": "PATCH", "path": f"/Groups/{directory.ids['Data']}", "data": joined},
    ]
    told = directory.push("POST", "/Bulk", {"schemas": [BULK], "Operations": operations})["Operations"]
    assert [one["status"] for one in told] == ["201", "200"], told
    assert directory.push("GET", "/Users?count=1")["totalResults"] == 5 - 1
    assert Program(site.daemon).page("/readyz")[0] == 200


def assert_everything_arrived(site: Site, leo: Holder, mia: Holder, ann: Holder) -> None:
    gateway = site.gateway
    until(lambda: site.verified() == 2, "both leavers are verified")
    site.wait_until_quiet()
    gateway.assert_gone(leo)
    gateway.assert_gone(mia)
    assert (TEAM in gateway.teams_with(ann.user_id), "web" in gateway.teams_with(ann.user_id)) == (False, True)
    for login in ("zoe", "bob"):
        (account,) = gateway.users_called(mail(login))
        assert gateway.teams_with(account["user_id"]) == [TEAM]


AWAY = ["refused", "slow"]
"""Nobody listens; or every answer takes longer than the second it is given."""


@pytest.mark.parametrize("how", AWAY)
def test_every_push_is_answered_while_the_gateway_is_away(tmp_path: Path, gateway: Gateway, how: str) -> None:
    waits = {"group_loss_delete_after": "0s"}
    with (
        Line(gateway.sandbox.url) as line,
        running(tmp_path, gateway, line.url, routero={"timeout": "1s"}, policy=waits) as site,
    ):
        leo, mia, ann = site.hire("leo", "mia", "ann")
        if how == "refused":
            line.cut()
        else:
            gateway.break_with("*", delay=1.5)
        push_everything(site)
        with read_only(store_url(site.daemon.settings)) as db:
            until(lambda: any(job.attempts for job in jobs.all_jobs(db)), "a call has failed")
        assert site.verified() == 0
        assert [key for holder in (leo, mia, ann) for key in holder.keys if not gateway.exists(key)] == []
        gateway.mend()
        if how == "refused":
            line.mend()
        assert_everything_arrived(site, leo, mia, ann)


# -- a wave ------------------------------------------------------------------------------------------------------------------


def test_a_wave_of_leavers_keeps_nobody_from_pushing(tmp_path: Path, gateway: Gateway) -> None:
    """A hundred leave while others join and move: each push is answered 2xx, and each has its effect."""
    with running(tmp_path, gateway, guard=UNGUARDED) as site:
        logins = [f"w{number:03}" for number in range(100)]
        holders = [gateway.account(login, "lab", None) for login in logins]
        (ann,) = site.hire("ann")
        for login in logins:
            site.directory.hire(login)
        gateway.ready()

        def push(number: int) -> None:
            if number:
                for login in logins[number - 1 :: 2]:
                    site.directory.leave(login)
                return
            pushing = ScimDirectory(site.daemon.scim)
            pushing.ids = dict(site.directory.ids)
            for turn in range(30):
                pushing.hire(f"j{turn:02}", *(["Data"] if turn % 2 else []))
                pushing.join("Web", f"j{turn:02}")
                pushing.find("ann")

        at_once(push, 3)
        until(lambda: site.verified() == 100, "every leaver is verified", told=site.verified)
        site.wait_until_quiet()
        assert_all_gone(gateway, holders)
        gateway.assert_at_work(ann, TEAM)
        rosters = {team["team_id"]: str(team["members_with_roles"]) for team in gateway.state()["teams"]}
        for turn in range(30):
            (joiner,) = gateway.users_called(mail(f"j{turn:02}"))
            assert joiner["user_id"] in rosters["web"]
            assert (joiner["user_id"] in rosters[TEAM]) == (turn % 2 == 1)


def assert_all_gone(gateway: Gateway, holders: list[Holder]) -> None:
    """Judge everybody by one look at the gateway, and try every key."""
    state = gateway.state()
    left = {holder.user_id for holder in holders}
    assert [key for key in state["keys"] if key["user_id"] in left] == []
    rosters = str([team["members_with_roles"] for team in state["teams"]])
    assert [user_id for user_id in left if f"'{user_id}'" in rosters] == []
    fenced = {user["user_id"] for user in state["users"] if (user["metadata"] or {}).get("scim_active") is False}
    assert left <= fenced
    assert gateway.answers([key for holder in holders for key in holder.keys]) == {401}
