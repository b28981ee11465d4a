"""What once went wrong in what is written down, each proved by a reader before it was mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from idsync.model import Evidence, Group, Origin, User
from idsync.standing import Cause
from idsync.store import directory, ledger, people

from .world import World

LONG = 700.0
"""Seconds after which a pushed departure does not count for the guard any more."""


@pytest.fixture
def data(world: World) -> Group:
    return world.group("Data")


def crowd_of(world: World, data: Group, count: int = 12) -> list[User]:
    return [world.user(f"p{number:02}", data) for number in range(count)]


def held_back(world: World, users: list[User]) -> list[str]:
    """Return whose deletion an open hold keeps back."""
    return [user.user_name for user in users if ledger.hold_is_open(world.db, world.departure(user).hold_id)]


# -- the guard of pushes ----------------------------------------------------------------------------------------------


def test_departures_that_are_hastened_count_for_the_push_guard(world: World, data: Group) -> None:
    """Emptied groups first and active=false ten minutes later: the pushes of the guard's window are the second ones."""
    crowd = crowd_of(world, data)
    world.replace_group(data, [])
    assert len(held_back(world, crowd)) == len(crowd)
    world.clock.advance(LONG)
    for user in crowd:
        world.change(user, active=False)
    assert held_back(world, crowd) == [user.user_name for user in crowd[3:]], "max_push_departures is 3"
    assert {world.departure(user).evidence for user in crowd} == {Evidence.SCIM_INACTIVE}


def test_departures_hastened_one_by_one_count_for_the_push_guard_too(world: World, data: Group) -> None:
    crowd = crowd_of(world, data, 6)
    for user in crowd:
        world.remove(data, user)
        world.clock.advance(LONG)
    for user in crowd:
        world.change(user, active=False)
    assert held_back(world, crowd) == ["p03", "p04", "p05"]


# -- holds that lapsed ------------------------------------------------------------------------------------------------


def test_a_held_mass_loss_is_still_held_after_the_loss_of_the_last_group(world: World, data: Group) -> None:
    web = world.group("Web")
    crowd = crowd_of(world, data, 10)
    world.add(web, crowd[0])
    world.replace_group(data, [])
    hold = world.grant(crowd[0], "data").hold_id
    assert hold is not None
    world.remove(web, crowd[0])
    assert world.departure(crowd[0]).hold_id == hold
    assert (world.person(crowd[0]).id, "") in {(item.person_id, item.team) for item in ledger.items(world.db, hold)}


def test_a_held_mass_loss_is_still_held_after_a_return_through_another_group(world: World, data: Group) -> None:
    crowd = crowd_of(world, data, 10)
    world.replace_group(data, [])
    hold = world.departure(crowd[0]).hold_id
    assert hold is not None
    world.add(world.group("Web"), crowd[0])
    assert (world.left(crowd[0]), world.teams(crowd[0])) == (None, {"web"})
    lost = world.grant(crowd[0], "data")
    assert (lost.state, lost.hold_id) == ("leaving", hold)
    kept = {(item.person_id, item.team) for item in ledger.items(world.db, hold)}
    assert (world.person(crowd[0]).id, "data") in kept
    assert (world.person(crowd[0]).id, "") not in kept


def test_a_role_alone_that_the_configuration_took_is_held_through_unrelated_edits(world: World) -> None:
    eve = world.user("eve", world.group("Auditors"))
    world.configure(roles=[])
    unrelated = world.group("Unrelated", eve)
    world.change(eve, display_name="touched")
    world.remove(unrelated, eve)
    assert world.left(eve) is None
    assert [item.person_id for item in world.held()["configuration"]] == [world.person(eve).id]


def test_the_loss_of_the_group_behind_a_held_role_is_a_departure(world: World) -> None:
    """The hold keeps what the configuration takes, not what a source takes."""
    auditors = world.group("Auditors")
    eve = world.user("eve", auditors)
    world.configure(roles=[])
    world.remove(auditors, eve)
    assert world.departure(eve).evidence is Evidence.GROUP_LOSS


def test_a_new_protection_holds_nothing_and_a_hold_approved_later_takes_nothing_from_whoever_has_it(
    world: World, data: Group
) -> None:
    ada, bob = world.user("ada", data), world.user("bob", data)
    changed: dict[str, Any] = {"teams": [{"alias": "data", "groups": ["Other"]}]}
    world.configure(**changed)
    before = world.held()
    world.configure(**changed, protected=[{"match": "ada", "reason": "break-glass"}])
    assert world.held() == before
    world.approve("configuration")
    assert (world.left(ada), world.grant(ada, "data").state) == (None, "granted")
    assert world.departure(bob).evidence is Evidence.GROUP_LOSS


def test_a_protection_that_has_expired_shields_nobody_at_the_next_sweep(world: World, data: Group) -> None:
    last_day = datetime.fromtimestamp(world.clock.now(), UTC).date() + timedelta(days=1)
    world.configure(protected=[{"match": "ada", "reason": "until then", "expires": last_day}])
    ada = world.user("ada", data)
    world.change(ada, active=False)
    world.write(world.control.look_at_protected)
    assert world.left(ada) is None
    world.clock.advance(4 * 86400)
    world.write(world.control.look_at_protected)
    assert world.departure(ada).evidence is Evidence.SCIM_INACTIVE


# -- who is who -------------------------------------------------------------------------------------------------------


def test_two_live_users_with_one_external_id_are_two_people_and_a_conflict(world: World, data: Group) -> None:
    ann, bob = world.user("ann", data, external="e-1"), world.user("bob", data, external="e-1")
    assert world.person(ann).id != world.person(bob).id
    [conflict] = world.conflicts()
    assert (conflict.kind, conflict.subject) == ("external_id", "bob")
    world.change(bob, active=False)
    assert world.departure(bob).evidence is Evidence.SCIM_INACTIVE
    assert (world.left(ann), world.teams(ann)) == (None, {"data"})


def test_whoever_takes_a_record_over_inherits_no_groups(world: World, data: Group) -> None:
    leaver = world.user("ada", data, external="e-1")
    before = world.person(leaver).id
    world.change(leaver, active=False)
    taken = world.change(leaver, external_id="e-2", active=True)
    assert world.person(taken).id != before
    assert (world.teams(taken), world.members(data)) == (set(), set())
    assert ledger.open_departure(world.db, before) is not None
    world.add(data, taken)
    assert world.teams(taken) == {"data"}
    assert ledger.open_departure(world.db, before) is not None


def test_a_repeated_active_false_decides_again(world: World, data: Group) -> None:
    """Two sources of one directory: the other one was heard last, then the first repeats what it said before."""
    one = world.user("leo", data, external="e-1")
    other = world.user("leo", world.group("Data", source="okta-2"), source="okta-2", external="e-1")
    world.clock.advance(1.0)
    world.change(one, active=False)
    assert world.left(one) is not None
    world.clock.advance(1.0)
    world.change(other, active=True)
    assert world.left(one) is None, "the newest word of the directory counts"
    world.clock.advance(1.0)
    world.change(one, active=False)
    assert world.departure(one).evidence is Evidence.SCIM_INACTIVE


@pytest.mark.parametrize("ahead", [0.0, 3600.0, 5 * 86400.0], ids=["the same instant", "an hour", "days"])
def test_the_newest_word_counts_although_a_clock_that_was_ahead_told_the_earlier_one(
    world: World, data: Group, ahead: float
) -> None:
    """The clock was set back, maybe over a restart: what was said before has later times than what is said now."""
    world.clock.advance(ahead)
    one = world.user("leo", data, external="e-1")
    twin = world.group("Data", source="okta-2")
    other = world.user("leo", twin, source="okta-2", external="e-1")
    world.clock.advance(-ahead)
    world.change(one, active=False)
    assert world.departure(one).evidence is Evidence.SCIM_INACTIVE
    world.change(other, display_name="touched")
    assert world.left(one) is None, "the other source has spoken since"
    world.change(one, display_name="touched")
    assert world.left(one) is not None


def test_words_that_a_clock_ahead_told_keep_their_order(world: World, data: Group) -> None:
    world.clock.advance(3600.0)
    one = world.user("leo", data, external="e-1")
    world.clock.advance(1.0)
    other = world.user("leo", world.group("Data", source="okta-2"), source="okta-2", external="e-1")
    world.clock.advance(1.0)
    world.change(one, active=False)
    world.clock.advance(-3602.0)
    world.group("Choir", other, source="okta-2")
    assert world.left(one) is not None


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_the_newest_word_on_a_group_counts_whatever_a_clock_that_was_ahead_has_told(
    world: World, data: Group, ahead: float
) -> None:
    twin, web = world.group("Data", source="okta-2"), world.group("Web")
    world.clock.advance(ahead)
    leo = world.user("leo", data, web, external="e-1")
    world.user("leo", twin, source="okta-2", external="e-1")
    world.clock.advance(-ahead)
    world.remove(data, leo)
    assert world.teams(leo) == {"web"}
    world.add(data, leo)
    assert world.teams(leo) == {"data", "web"}


def test_a_repetition_that_changes_nothing_opens_no_job(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.finish_jobs()
    world.change(ada, active=True)
    assert world.job(ada) is None


# -- somebody no group ever gave access -------------------------------------------------------------------------------


def test_the_return_of_somebody_never_managed_closes_their_departure(world: World) -> None:
    bob = world.user("bob")
    world.change(bob, active=False)
    assert world.left(bob) is not None
    world.change(bob, active=True)
    assert world.left(bob) is None


def test_the_return_of_somebody_never_managed_does_not_lift_a_ban(world: World) -> None:
    bob = world.user("bob")
    world.revoke("bob")
    world.change(bob, display_name="touched")
    assert world.departure(bob).evidence is Evidence.REVOKED
    world.restore("bob")
    assert world.left(bob) is None


def test_a_sweep_alone_brings_back_nobody_whose_account_no_source_knows(world: World) -> None:
    asked: dict[str, Any] = {"email": None, "reason": "left", "override": False, "by": "op"}
    at = world.clock.now()
    told = world.write(lambda db: world.control.revoke_account(db, "u-1", "stray", received_at=at, **asked))
    sweep = Cause(Origin("config", "sweep", at), "a sweep", configuration=True)
    world.write(lambda db: world.intake.people.look_again(db, [told["person"]], sweep))
    assert ledger.open_departure(world.db, told["person"]) is not None
    world.restore("u-1")
    assert ledger.open_departure(world.db, told["person"]) is None


def test_a_record_that_is_gone_does_not_bring_its_person_back(world: World) -> None:
    """Lifting the ban of somebody whose source has deleted them leaves them departed."""
    bob = world.user("bob")
    world.revoke("bob")
    world.delete(bob)
    world.restore("bob")
    assert directory.user(world.db, "okta", bob.id) is None
    assert ledger.open_departure(world.db, world.person(bob).id) is not None
    assert people.live_ban(world.db, world.person(bob).id) is None


def test_a_hold_that_opens_over_a_waiting_deletion_raises_the_generation(world: World, data: Group) -> None:
    """A worker that has read that nothing holds it must not go on to delete."""
    ada, bob = world.user("ada", data), world.user("bob", data, world.group("Web"))
    world.delete_group(data)
    before = {user.id: world.person(user).generation for user in (ada, bob)}
    world.group("Data")
    assert all(world.person(user).generation > before[user.id] for user in (ada, bob))
