"""What a leaver may still know is reported: shared keys of their teams, keys they made for others; nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.company import LAB, Company, founded
from support.daemon import idsync
from support.directory import mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway, Key
from support.home import Home
from support.settings import DATA, WEB
from support.waiting import until

from idsync.engine import exposed
from idsync.engine.desk import Desk, EngineSettings, every
from idsync.model import Lane
from idsync.store import exposure, people
from idsync.store.db import Db

AT_ONCE = {"group_loss_delete_after": "0s"}
NEVER = {"group_loss_delete_after": "1h"}
SERVICE = {"service_account_id": "nightly"}
ROTATE = {**DATA, "on_member_departure": "rotate"}


def shown(opened: Opener, *words: str) -> list[dict[str, Any]]:
    """Ask as an operator does."""
    done = idsync(opened.settings, "keys", "exposed", *words, "--json")
    assert done.code == 0, done.err
    return list(done.json)


def known(opened: Opener, *words: str) -> dict[str, str]:
    """Return why each key is shown, by its id."""
    rows = shown(opened, *words)
    assert len({(row["user"], row["key_id"]) for row in rows}) == len(rows), "a key is shown once for each person"
    return {row["key_id"]: row["why"] for row in rows}


def settled_keys(gateway: Gateway, company: Company) -> dict[str, Key]:
    """Make keys that Leo may know, by what they are, and one beside each that he cannot know."""
    leo, ann = company.leo.user_id, company.ann.user_id
    gateway.team("else", ann)
    made = {
        "shared": company.shared,
        "service": gateway.key_of(None, "data", metadata=SERVICE, key_alias="nightly"),
        "of the lab": gateway.key_of(None, LAB),
        "made for ann": gateway.key_of(ann, "data", created_by=leo),
        "made elsewhere": gateway.key_of(None, "else", created_by=leo),
        "made and shared": gateway.key_of(None, LAB, created_by=leo),
    }
    gateway.key_of(ann, "data", created_by=ann)
    gateway.key_of(None, "else")
    gateway.key_of(None, None)
    company.leo.keys += [gateway.key_of(leo, "data", created_by="default_user_id"), gateway.key_of(leo, created_by=ann)]
    gateway.ready()
    return made


WHY = {
    "shared": "shared",
    "service": "service_account",
    "of the lab": "shared",
    "made for ann": "created_by",
    "made elsewhere": "created_by",
    "made and shared": "created_by",
    "made by the second": "created_by",
}


@both_dialects
def test_what_a_leaver_may_know_is_shown_and_works_on(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    second = company.second_account(home, None)
    second.keys.append(gateway.key_of(second.user_id, "data", created_by=company.leo.user_id))
    made["made by the second"] = gateway.key_of(company.ann.user_id, created_by=second.user_id)
    gateway.ready()
    home.reconcile()
    assert known(opened) == {}, "nobody has left"
    home.offboard("leo")
    home.reconcile()
    assert known(opened) == {key.id: WHY[what] for what, key in made.items()}
    assert gateway.answers(list(made.values())) == {200}
    company.assert_leo_is_gone()
    gateway.assert_gone(second)
    (service,) = (row for row in shown(opened, mail("leo")) if row["why"] == "service_account")
    departure = home.departure("leo")
    assert service.pop("departed").endswith("Z")
    assert service == {
        "user": mail("leo"),
        "departure": departure.id,
        "key_id": made["service"].id,
        "alias": "nightly",
        "name": f"sk-...{made['service'].raw[-4:]}",
        "owner": None,
        "team": "data",
        "why": "service_account",
        "last_used": None,
        "spend": 0.0,
        "rotation": "not asked for",
    }
    assert known(opened, mail("ann")) == {}
    entries = [entry for entry in home.trail() if entry.action == "keys.exposed"]
    assert [(entry.subject, entry.detail["departure"]) for entry in entries] == [(mail("leo"), departure.id)]
    assert entries[0].detail["keys"] == sorted(key.id for key in made.values())


def test_last_use_and_spend_are_as_of_the_last_pass(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    home.reconcile()
    asked = {"model": "gpt-5-mini", "messages": []}
    assert gateway.post("/v1/chat/completions", asked, key=company.shared.raw).status == 200
    assert [(row["last_used"], row["spend"]) for row in shown(opened)] == [(None, 0.0)]
    home.reconcile()
    ((used, spend),) = [(row["last_used"], row["spend"]) for row in shown(opened)]
    assert used > shown(opened)[0]["departed"]
    assert spend == 0.0005


@pytest.mark.parametrize("end", ["/key/delete", "/key/regenerate"])
def test_a_key_that_is_gone_or_rotated_is_shown_no_more(gateway: Gateway, opened: Opener, end: str) -> None:
    gateway.hook("options", {"licence": True})
    home = opened()
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    home.offboard("leo")
    home.reconcile()
    ended = [made[what] for what in ("shared", "made for ann", "made and shared")]
    for key in ended:
        body: dict[str, Any] = {"keys": [key.id]} if end == "/key/delete" else {"key": key.id}
        gateway.ok(end, body)
    gateway.key_of(None, "data")
    before = known(opened)
    home.reconcile()
    assert known(opened) == {key: why for key, why in before.items() if key not in {one.id for one in ended}}


def test_a_mover_is_shown_once_out_of_the_team_and_no_more_when_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    settled_keys(gateway, company)
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    home.reconcile()
    assert known(opened) == {}, "still in the team: the same keys come back within the waiting time"
    home.directory.join("Data", "leo")
    home.wait_until_quiet()

    home = opened(policy=AT_ONCE)
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    home.reconcile()
    rows = shown(opened)
    assert {row["why"] for row in rows} == {"shared", "service_account"}
    assert {(row["team"], row["departure"]) for row in rows} == {("data", None)}
    home.directory.join("Data", "leo")
    assert known(opened) == {}


def test_a_team_that_is_still_being_left_is_counted_once_they_are_out(gateway: Gateway, opened: Opener) -> None:
    """Out of the last group and into another: counted while nothing was given, and not for good."""
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    home.reconcile()
    assert set(known(opened)) == {company.shared.id}
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    later = gateway.key_of(None, "data")
    home.reconcile()
    assert set(known(opened)) == {company.shared.id}

    def hasten(db: Db) -> None:
        (grant,) = (grant for grant in people.grants(db, home.person("leo").id) if grant.team == "data")
        people.put_grant(db, replace(grant, delete_at=home.core.clock.now()))
        home.core.intake.people.open_job(db, grant.person_id, Lane.REVOKE)

    home.write(hasten)
    until(lambda: "data" not in gateway.teams_with(company.leo.user_id), "he is out of the team")
    home.wait_until_quiet()
    home.reconcile()
    assert set(known(opened)) == {company.shared.id, later.id}
    assert {row["departure"] for row in shown(opened)} == {None}


def test_whoever_is_back_is_shown_for_the_teams_they_did_not_get_back(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    home.offboard("leo")
    home.reconcile()
    home.directory.come_back("leo")
    left = {made[what].id for what in ("of the lab", "made and shared")}
    assert set(known(opened)) == left
    assert {row["departure"] for row in shown(opened)} == {None}
    home.wait_until_quiet()
    home.reconcile()
    assert set(known(opened)) == left
    gateway.put_on(LAB, company.leo.user_id)
    home.reconcile()
    assert known(opened) == {}, "somebody put him back by hand"
    home.offboard("leo")
    home.reconcile()
    assert known(opened) == {key.id: WHY[what] for what, key in made.items()}, "and all of it again"


@pytest.mark.parametrize("how", ["block", "held"])
def test_it_is_shown_as_soon_as_access_has_ended(gateway: Gateway, opened: Opener, how: str) -> None:
    """Nothing of his is deleted: the gateway still has him in his teams."""
    changed: dict[str, Any] = {"policy": {"on_departure": "block"}} if how == "block" else {}
    home = opened(guard={"max_push_departures": 1 if how == "held" else 9}, **changed)
    company = founded(gateway, home)
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    made = settled_keys(gateway, company)
    home.directory.leave("zoe")
    home.directory.leave("leo")
    home.wait_for("leo", "verified" if how == "block" else "held")
    home.reconcile()
    assert sorted(known(opened, mail("leo")).values()) == sorted(WHY[what] for what in made)
    assert set(gateway.teams_with(company.leo.user_id)) == {"data", LAB}


def test_nothing_is_shown_while_nothing_has_ended(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    founded_by_hand = gateway.account("boss", None, user_role="proxy_admin")
    home.directory.hire("boss", "Data")
    home.link("boss", founded_by_hand.user_id)
    home.work_off()
    gateway.key_of(None, "data")
    home.directory.leave("boss")
    home.reconcile()
    assert home.state("boss") == "held"
    assert known(opened) == {}


def test_rotation_is_wanted_and_shown_of_keys_that_no_configuration_names(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[ROTATE, WEB])
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    home.offboard("leo")
    home.reconcile()
    wanted = {row["key_id"] for row in shown(opened) if row["rotation"] == "wanted"}
    assert wanted == {made["shared"].id, made["service"].id}, "only keys that are nobody's, in that team"
    assert gateway.answers([made["shared"], made["service"]]) == {200}
    assert gateway.calls("/key/regenerate") == []
    assert idsync(opened.settings, "status", "--json").json["exposed_keys"] == {"keys": 6, "rotation_wanted": 2}
    assert "rotation wanted for 2" in idsync(opened.settings, "status").out
    assert "idsync rotates keys that [[teams.keys]] names" in idsync(opened.settings, "keys", "exposed").out
    assert "this team has none there" in idsync(opened.settings, "config", "check").out
    metrics = home.core.metrics.text().decode()
    assert 'idsync_exposed_keys{wants="rotate"} 2.0' in metrics
    assert 'idsync_exposed_keys{wants="report"} 4.0' in metrics

    home = opened(teams=[DATA, WEB])
    home.reconcile()
    assert {row["rotation"] for row in shown(opened)} == {"not asked for"}


def test_the_second_look_shares_one_reading_of_all_keys(gateway: Gateway, opened: Opener) -> None:
    """The hook of a departure: what it counts is not counted again by a pass, so a rotated key stays away."""
    home = opened()
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    crowd = company.crowd(home, 5)
    home.wait_until_quiet()
    logins = ["leo", *(holder.email for holder in crowd)]
    for login in logins:
        home.directory.leave(login)
    home.wait_until_verified(*logins)
    before = gateway.ready()
    found = home.run(look_at(home, logins))
    assert len([row for row in gateway.calls("/key/list", before) if "user_id" not in row["query"]]) == 1
    assert {key.key_id: key.why for key in found[0].keys} == {key.id: WHY[what] for what, key in made.items()}
    assert [one.keys for one in found[1:]] == [[]] * len(crowd)
    now = home.core.clock.now()
    home.write(lambda db: [exposed.note(db, one, now) for one in found])
    gateway.ok("/key/delete", {"keys": [made["shared"].id]})
    gateway.key_of(None, "data")
    home.reconcile()
    assert set(known(opened)) == {key.id for what, key in made.items() if what != "shared"}


async def look_at(home: Home, logins: list[str]) -> list[exposed.Census]:
    """Do for each of them what a departure does at its second look."""
    return await every(
        exposed.census(desk_of(home, login), home.person(login), home.departure(login), [], [home.account_of(login)])
        for login in logins
    )


def desk_of(home: Home, login: str) -> Desk:
    core, person = home.core, home.person(login)
    rules = core.intake.rules
    return Desk(
        core.store, core.gateway, core.clock, rules, EngineSettings(), core.metrics, person.id, person.generation
    )


def test_what_was_noted_while_a_pass_was_reading_is_not_gone(gateway: Gateway, opened: Opener) -> None:
    """The second look of a departure may have seen a key that the listing of a pass had not reached."""
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    question = exposed.ask(home.db, home.core.clock.now())
    scape = home.run(home.core.reconciler._scape())
    key = gateway.key_of(company.ann.user_id, created_by=company.leo.user_id)
    (found,) = home.run(look_at(home, ["leo"]))
    home.write(lambda db: exposed.note(db, found, home.core.clock.now()))
    told = exposed.answer(home.db, question, scape, home.core.intake.rules)
    home.write(lambda db: exposed.write(db, told, home.core.clock.now()))
    assert set(known(opened)) == {company.shared.id, key.id}


def test_a_return_between_the_question_and_the_answer_wins(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    home.offboard("leo")
    question = exposed.ask(home.db, home.core.clock.now())
    assert [case.departure_id for case in question.knowers] == [home.departure("leo").id]
    scape = home.run(home.core.reconciler._scape())
    told = exposed.answer(home.db, question, scape, home.core.intake.rules)
    assert len({key.key_id for census in told.censuses for key in census.keys}) == len(made)
    home.directory.come_back("leo")
    home.write(lambda db: exposed.write(db, told, home.core.clock.now()))
    assert exposure.every(home.db) == []


def test_a_settled_departure_is_not_counted_for_ever(gateway: Gateway, opened: Opener) -> None:
    home = opened(routero={"cache_time": "0.1s"})
    company = founded(gateway, home)
    made = settled_keys(gateway, company)
    home.offboard("leo")
    home.wait_for("leo", "settled")
    assert len(exposed.ask(home.db, home.core.clock.now()).knowers) == 1
    home.reconcile()
    assert exposed.ask(home.db, home.core.clock.now()).knowers == ()
    assert len(known(opened)) == len(made)


def test_nobody_of_that_name_is_exit_1_and_nothing_is_a_sentence(gateway: Gateway, opened: Opener) -> None:
    opened()
    nobody = idsync(opened.settings, "keys", "exposed", "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert nobody.err == "idsync: nobody is called 'nobody' here; `idsync departures` lists everybody who left\n"
    assert idsync(opened.settings, "keys", "exposed").out == "no key that somebody who left may know\n"
