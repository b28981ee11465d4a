"""A changed configuration gives at once and takes nothing: what it alone would take is a hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from idsync.control import Control
from idsync.errors import HeldByGuard, NotFound
from idsync.intake import Intake
from idsync.model import Evidence, Group, User
from idsync.store import ledger

from .world import CONFIG, World

NO_DATA: dict[str, Any] = {"teams": [{"alias": "web", "groups": ["Web"]}, {"alias": "data", "groups": ["Other"]}]}


@pytest.fixture
def data(world: World) -> Group:
    return world.group("Data")


@pytest.fixture
def ada(world: World, data: Group) -> User:
    return world.user("ada", data)


def held_people(world: World) -> set[str]:
    return {item.person_id for item in world.held()["configuration"]}


def test_the_same_configuration_changes_nothing(world: World, ada: User) -> None:
    entries = len(world.trail())
    assert world.configure() is False
    assert len(world.trail()) == entries


def test_the_source_of_the_drill_is_no_change_of_the_configuration(world: World, ada: User) -> None:
    """A store of a release that had no drill: the fingerprint in it is that of the configured sources alone."""
    rules = world.control.intake.rules
    assert "drill" in rules.idp_of
    before = replace(rules, idp_of={source: rules.idp_of[source] for source in rules.sources})
    clock = world.control.clock
    earlier = Control(Intake(before, clock), world.control.config, clock)
    assert world.write(earlier.adopt_configuration) is False


def test_what_a_new_configuration_gives_is_given_at_once(world: World) -> None:
    ada = world.user("ada", world.group("Canteen"))
    assert world.configure(teams=[*CONFIG["teams"], {"alias": "lunch", "groups": ["Canteen"]}]) is True
    assert (world.teams(ada), world.held()) == ({"lunch"}, {})
    assert [event.action for event in world.trail("configuration")] == ["configuration.changed"]


def test_what_only_the_configuration_would_take_is_held_whatever_its_size(world: World, ada: User) -> None:
    world.finish_jobs()
    world.configure(**NO_DATA)
    assert (world.person(ada).id, "data") in {(item.person_id, item.team) for item in world.held()["configuration"]}
    assert held_people(world) == {world.person(ada).id}
    assert (world.teams(ada), world.left(ada), world.job(ada)) == ({"data"}, None, None)


def test_a_hold_of_the_configuration_survives_later_edits_and_restarts(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.change(ada, display_name="touched")
    world.configure(**NO_DATA, protected=[{"match": "nobody", "reason": "x"}])
    assert (world.teams(ada), world.left(ada)) == ({"data"}, None)
    assert held_people(world) == {world.person(ada).id}


def test_a_leaver_does_not_wait_for_the_hold_of_a_configuration(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.change(ada, active=False)
    assert (world.departure(ada).evidence, world.departure(ada).hold_id) == (Evidence.SCIM_INACTIVE, None)


def test_a_leaver_is_dropped_from_the_hold_of_a_configuration(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.change(ada, active=False)
    assert "configuration" not in world.held()


def test_taking_the_configuration_back_empties_the_hold(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.configure()
    assert (world.teams(ada), world.grant(ada, "data").hold_id) == ({"data"}, None)
    assert "configuration" not in world.held()


def test_a_hold_that_keeps_nobody_back_any_more_is_not_open(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.configure()
    assert world.held() == {}


def test_approving_takes_what_was_held(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    world.approve("configuration")
    assert world.teams(ada) == set()
    assert world.departure(ada).evidence is Evidence.GROUP_LOSS


def test_approving_takes_one_team_and_leaves_the_other(world: World, ada: User) -> None:
    world.add(world.group("Web"), ada)
    world.configure(**NO_DATA)
    world.approve("configuration")
    assert (world.teams(ada), world.teams(ada, "leaving"), world.left(ada)) == ({"web"}, {"data"}, None)
    assert world.grant(ada, "data").delete_at == world.clock.now()


def test_rejecting_keeps_it_for_good(world: World, ada: User) -> None:
    world.configure(**NO_DATA)
    hold = world.hold("configuration")
    world.write(lambda db: world.control.reject(db, hold.id, by="op"))
    world.change(ada, display_name="touched")
    assert (world.teams(ada), world.left(ada), world.held()) == ({"data"}, None, {})


def test_a_hold_is_approved_only_as_it_was_shown(world: World, data: Group, ada: User) -> None:
    world.user("bob", data)
    world.configure(**NO_DATA)
    hold = world.hold("configuration")
    seen = ledger.checksum(world.held()["configuration"])
    world.change(ada, active=False)
    with pytest.raises(HeldByGuard, match="has changed since checksum"):
        world.write(lambda db: world.control.approve(db, hold.id, seen, by="op"))
    with pytest.raises(NotFound, match="no open hold"):
        world.write(lambda db: world.control.approve(db, "h-0", seen, by="op"))


def test_unbinding_by_hand_is_held_like_a_configuration(world: World, data: Group, ada: User) -> None:
    world.write(lambda db: world.control.unbind(db, "data", data.id, by="op"))
    assert (world.teams(ada), world.left(ada)) == ({"data"}, None)
    assert held_people(world) == {world.person(ada).id}


def test_a_source_that_is_taken_out_of_the_configuration_takes_nothing(world: World, ada: User) -> None:
    world.configure(scim={"sources": [{"name": "entra"}]})
    assert (world.teams(ada), world.left(ada)) == ({"data"}, None)
    assert held_people(world) == {world.person(ada).id}


def test_a_protection_that_is_taken_away_departs_nobody_before_somebody_has_looked(world: World, data: Group) -> None:
    world.configure(protected=[{"match": "glass", "reason": "break-glass"}])
    glass = world.user("glass", data)
    world.change(glass, active=False)
    world.configure()
    assert world.left(glass) is None
    world.approve("configuration")
    assert world.departure(glass).evidence is Evidence.SCIM_INACTIVE


def test_a_role_that_only_the_configuration_would_take_is_held_too(world: World) -> None:
    ada = world.user("ada", world.group("Auditors"))
    world.configure(roles=[])
    world.change(ada, display_name="touched")
    assert world.left(ada) is None
    assert world.person(ada).role == "internal_viewer"


def test_a_departure_that_only_the_configuration_would_make_is_held_through_later_edits(world: World) -> None:
    world.configure(policy={"departed": "all"})
    data = world.group("Data")
    ada = world.user("ada", data, email="ada@example.com")
    same = world.user("ada", source="entra", email="ada@example.com")
    world.change(same, active=False)
    assert world.left(ada) is None
    world.configure()
    assert world.left(ada) is None
    world.change(ada, display_name="touched")
    assert world.left(ada) is None


def test_a_new_protection_puts_nothing_on_hold(world: World, ada: User) -> None:
    world.configure(protected=[{"match": "ada", "reason": "break-glass"}])
    assert world.held() == {}
    assert world.teams(ada) == {"data"}
