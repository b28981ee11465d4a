"""How fast which evidence takes what: access ends at once, only deletion may wait."""

from __future__ import annotations

from typing import Any

import pytest
from support.stores import SHARED

from idsync.errors import UsageError
from idsync.model import DepartureState, Evidence, Group, Lane, User
from idsync.store import ledger

from .world import LATE, World

WAIT = 600.0


@pytest.fixture
def data(world: World) -> Group:
    return world.group("Data")


@pytest.fixture
def web(world: World) -> Group:
    return world.group("Web")


def has_left(world: World, user: User, evidence: Evidence, *, waits: float) -> None:
    """Check everything a departure writes down in its one transaction."""
    found, person, job = world.departure(user), world.person(user), world.job(user)
    assert (found.evidence, found.kind, found.state) == (evidence, "departure", DepartureState.ACCEPTED)
    assert (found.accepted_at, found.delete_at) == (world.clock.now(), world.clock.now() + waits)
    assert (world.teams(user), person.role) == (set(), None)
    assert job is not None
    assert (job.lane, job.wanted) == (Lane.REVOKE, person.generation)
    assert job.run_at == world.clock.now() or (SHARED and job.run_at < world.clock.now()), "by the database's clock"


# -- one row of the table after the other ---------------------------------------------------------------------------


def test_active_false_ends_everything_at_once(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    assert world.teams(ada) == {"data"}
    world.change(ada, active=False)
    has_left(world, ada, Evidence.SCIM_INACTIVE, waits=0.0)
    assert world.departure(ada).received_at == world.clock.now() - LATE
    assert world.departure(ada).source == "okta"


def test_a_scim_delete_ends_everything_at_once(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.delete(ada)
    has_left(world, ada, Evidence.SCIM_DELETE, waits=0.0)


def test_a_revoke_by_hand_ends_everything_at_once(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.revoke("ada")
    has_left(world, ada, Evidence.REVOKED, waits=0.0)


def test_the_loss_of_the_last_group_ends_access_now_and_keys_after_the_waiting_time(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.remove(data, ada)
    has_left(world, ada, Evidence.GROUP_LOSS, waits=WAIT)


def test_the_loss_of_one_group_of_two_takes_that_team_alone(world: World, data: Group, web: Group) -> None:
    ada = world.user("ada", data, web)
    world.finish_jobs()
    world.remove(data, ada)
    lost, job = world.grant(ada, "data"), world.job(ada)
    assert (lost.state, lost.evidence, lost.lost_at) == ("leaving", Evidence.GROUP_LOSS, world.clock.now())
    assert lost.delete_at == world.clock.now() + WAIT
    assert (world.teams(ada), world.left(ada)) == ({"web"}, None)
    assert job is not None
    assert job.lane is Lane.REVOKE


def test_a_mover_who_is_added_again_within_the_waiting_time_keeps_the_team(
    world: World, data: Group, web: Group
) -> None:
    ada = world.user("ada", data, web)
    world.remove(data, ada)
    world.clock.advance(WAIT - 1)
    world.add(data, ada)
    back = world.grant(ada, "data")
    assert (back.state, back.lost_at, back.delete_at, back.destroyed) == ("granted", None, None, False)


@pytest.mark.parametrize("how", ["group deleted", "user dropped by replacing the members"])
def test_every_way_out_of_a_group_is_the_loss_of_it(world: World, data: Group, how: str) -> None:
    ada = world.user("ada", data)
    if how == "group deleted":
        world.delete_group(data)
    else:
        world.replace_group(data, [])
    has_left(world, ada, Evidence.GROUP_LOSS, waits=WAIT)


def test_the_loss_of_a_role_is_a_departure_when_nothing_else_is_left(world: World) -> None:
    auditors = world.group("Auditors")
    ada = world.user("ada", auditors)
    assert world.person(ada).role == "internal_viewer"
    world.remove(auditors, ada)
    has_left(world, ada, Evidence.GROUP_LOSS, waits=WAIT)


def test_a_source_that_says_a_stranger_left_is_heard(world: World) -> None:
    ada = world.user("ada")
    assert (world.left(ada), world.job(ada)) == (None, None)
    world.change(ada, active=False)
    has_left(world, ada, Evidence.SCIM_INACTIVE, waits=0.0)


# -- stronger evidence, and none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [Evidence.SCIM_INACTIVE, Evidence.SCIM_DELETE, Evidence.REVOKED])
def test_stronger_evidence_hastens_a_departure_that_waits(world: World, data: Group, evidence: Evidence) -> None:
    ada = world.user("ada", data)
    world.remove(data, ada)
    first = world.departure(ada)
    world.clock.advance(5)
    if evidence is Evidence.SCIM_INACTIVE:
        world.change(ada, active=False)
    elif evidence is Evidence.SCIM_DELETE:
        world.delete(ada)
    else:
        world.revoke("ada")
    found = world.departure(ada)
    assert (found.id, found.evidence, found.delete_at) == (first.id, evidence, world.clock.now())


def test_weaker_evidence_never_slows_a_departure_down(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.change(ada, active=False)
    before = world.departure(ada)
    world.clock.advance(5)
    world.remove(data, ada)
    assert world.departure(ada) == before


def test_any_directory_that_says_left_is_enough_by_default(world: World, data: Group) -> None:
    ada = world.user("ada", data, email="ada@example.com")
    same = world.user("ada.entra", source="entra", email="ada@example.com")
    assert world.person(same).id == world.person(ada).id
    world.change(same, active=False)
    assert world.departure(ada).source == "entra"


# -- coming back ----------------------------------------------------------------------------------------------------


def test_a_return_before_anything_was_destroyed_cancels_the_departure(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.change(ada, active=False)
    departure = world.departure(ada)
    world.change(ada, active=True)
    [closed] = world.db.all("SELECT * FROM departures WHERE id = :id", id=departure.id)
    assert (closed["state"], closed["closed_at"]) == ("cancelled", world.clock.now())
    assert (world.left(ada), world.teams(ada)) == (None, {"data"})
    job = world.job(ada)
    assert job is not None
    assert job.wanted == world.person(ada).generation


def test_a_return_after_destruction_began_closes_the_departure_where_it_was(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.change(ada, active=False)
    departure = world.departure(ada)
    world.destroy(ada)
    world.change(ada, active=True)
    [closed] = world.db.all("SELECT * FROM departures WHERE id = :id", id=departure.id)
    assert (closed["state"], closed["closed_at"]) == ("accepted", world.clock.now())
    assert (world.left(ada), world.teams(ada)) == (None, {"data"})
    world.change(ada, active=False)
    assert world.departure(ada).id != departure.id


def test_a_return_without_a_group_is_not_yet_a_return(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.change(ada, active=False)
    world.remove(data, ada)
    world.change(ada, active=True)
    assert world.left(ada) is not None
    world.add(data, ada)
    assert (world.left(ada), world.teams(ada)) == (None, {"data"})


def test_a_team_that_does_not_come_back_with_the_person_goes_on_leaving(world: World, data: Group, web: Group) -> None:
    ada = world.user("ada", data, web)
    world.change(ada, active=False)
    world.remove(web, ada)
    world.clock.advance(30)
    world.change(ada, active=True)
    gone = world.grant(ada, "web")
    assert (gone.state, gone.delete_at) == ("leaving", world.clock.now() + WAIT)
    assert world.teams(ada) == {"data"}


def test_a_stranger_who_is_active_again_has_not_left_any_more(world: World) -> None:
    ada = world.user("ada")
    world.change(ada, active=False)
    world.change(ada, active=True)
    assert world.left(ada) is None


# -- bans and protection --------------------------------------------------------------------------------------------


def test_no_source_brings_a_banned_person_back(world: World, data: Group, web: Group) -> None:
    ada = world.user("ada", data, external="e-1")
    world.revoke("ada")
    banned = world.departure(ada)
    world.change(ada, active=False)
    world.change(ada, active=True)
    world.add(web, ada)
    world.delete(ada)
    again = world.user("ada", web, external="e-1")
    assert world.departure(again).id == banned.id
    assert world.teams(again) == set()


NAMESAKES: list[dict[str, Any]] = [
    {"name": "ada"},
    {"name": "ADA", "external": "e-2"},
    {"name": "other", "email": "Ada@example.com"},
    {"name": "ada@example.com", "source": "entra"},
    {"name": "other", "email": "ada@example.com", "source": "entra"},
    {"name": "ada", "source": "okta-2"},
]


@pytest.mark.parametrize("how", NAMESAKES, ids=str)
@pytest.mark.parametrize("renamed", [False, True], ids=["", "renamed before"])
def test_who_comes_with_the_name_of_somebody_banned_is_banned_until_a_person_says_otherwise(
    world: World, data: Group, how: dict[str, Any], renamed: bool
) -> None:
    """A source that sends no externalId can only make somebody anew; a ban has to outlive that."""
    ada = world.user("ada", data, email="ada@example.com")
    world.revoke("ada")
    if renamed:
        world.change(ada, user_name="left-1", email="left-1@example.com")
    world.delete(ada)
    again = world.user(**how)
    world.add(world.group("Web", source=again.source), again)
    assert world.departure(again).evidence is Evidence.REVOKED
    assert (world.person(again).id != world.person(ada).id, world.teams(again)) == (True, set())
    [conflict] = [found for found in world.conflicts() if found.kind == "ban"]
    assert conflict.remedy == f"idsync restore {how['name']} --reason TEXT"
    world.restore(how["name"])
    assert (world.left(again), world.conflicts()) == (None, [])
    assert world.left(ada) is not None, "whoever was banned is still"


@pytest.mark.parametrize(
    "how",
    [{"name": "ada", "source": "shy"}, {"name": "other", "email": "ada@example.com", "source": "shy"}, {"name": "bob"}],
    ids=str,
)
def test_a_ban_is_not_spread_by_a_name_that_proves_nothing(world: World, data: Group, how: dict[str, Any]) -> None:
    ada = world.user("ada", data, email="ada@example.com")
    world.revoke("ada")
    world.delete(ada)
    assert world.left(world.user(**how)) is None


def test_a_restored_name_may_come_in_again(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.revoke("ada")
    world.restore("ada")
    world.delete(ada)
    again = world.user("ada", data)
    assert (world.left(again), world.teams(again)) == (None, {"data"})


def test_a_ban_on_an_account_no_source_knew_holds_when_a_source_names_its_holder(world: World, data: Group) -> None:
    asked: dict[str, Any] = {"reason": "left", "override": False, "by": "op", "received_at": world.clock.now()}
    world.write(lambda db: world.control.revoke_account(db, "u-1", "stray", email="stray@example.com", **asked))
    stray = world.user("stray.person", data, email="stray@example.com")
    assert (world.departure(stray).evidence, world.teams(stray)) == (Evidence.REVOKED, set())


def test_whoever_takes_the_record_of_somebody_banned_over_is_banned(world: World, data: Group) -> None:
    ada = world.user("ada", data, external="e-1")
    world.revoke("ada")
    world.change(ada, active=False)
    taken = world.change(ada, external_id="e-2", active=True)
    world.add(data, taken)
    assert (world.departure(taken).evidence, world.teams(taken)) == (Evidence.REVOKED, set())


def test_restoring_lifts_the_ban_and_what_the_sources_say_counts_again(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.revoke("ada")
    world.restore("ada")
    assert (world.left(ada), world.teams(ada)) == (None, {"data"})


def test_restoring_somebody_a_source_says_has_left_leaves_them_departed(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.revoke("ada")
    world.change(ada, active=False)
    world.restore("ada")
    assert world.left(ada) is not None


@pytest.mark.parametrize("match", ["ada", "ADA@example.com"])
def test_a_protected_person_is_left_alone_by_sources_and_by_hand(world: World, data: Group, match: str) -> None:
    world.configure(protected=[{"match": match, "reason": "break-glass"}])
    ada = world.user("ada", data, email="ada@example.com")
    world.change(ada, active=False)
    assert (world.left(ada), world.job(ada)) == (None, None)
    with pytest.raises(UsageError, match=r"protected \(break-glass\); add --override-protection"):
        world.revoke("ada")
    assert world.left(ada) is None


def test_a_ban_that_overrides_protection_takes_everything(world: World, data: Group) -> None:
    world.configure(protected=[{"match": "ada", "reason": "break-glass"}])
    ada = world.user("ada", data)
    world.revoke("ada", override=True)
    has_left(world, ada, Evidence.REVOKED, waits=0.0)


# -- many at once -----------------------------------------------------------------------------------------------------


def test_more_pushed_departures_than_the_guard_allows_are_blocked_at_once_and_deletion_is_held(
    world: World, data: Group
) -> None:
    staff = [world.user(f"user{number}", data) for number in range(5)]
    for user in staff:
        world.change(user, active=False)
    holds = [world.departure(user).hold_id for user in staff]
    assert [hold is None for hold in holds] == [True, True, True, False, False]
    assert {item.person_id for item in world.held()["push:okta"]} == {world.person(user).id for user in staff[3:]}
    for user in staff:
        has_left(world, user, Evidence.SCIM_INACTIVE, waits=0.0)
    assert [event.subject for event in world.trail("hold.opened")] == ["push:okta"]


def test_the_guard_counts_ten_minutes_and_each_source_alone(world: World, data: Group) -> None:
    staff = [world.user(f"user{number}", data) for number in range(4)]
    other = world.user("else", source="entra")
    for user in staff[:3]:
        world.change(user, active=False)
    world.change(other, active=False)
    assert world.held() == {}
    world.clock.advance(601)
    world.change(staff[3], active=False)
    assert world.held() == {}


def test_revokes_by_hand_are_neither_counted_nor_held(world: World, data: Group) -> None:
    for number in range(6):
        world.user(f"user{number}", data)
        world.revoke(f"user{number}")
    assert world.held() == {}


def test_a_revoke_by_hand_frees_a_departure_the_guard_holds(world: World, data: Group) -> None:
    staff = [world.user(f"user{number}", data) for number in range(4)]
    for user in staff:
        world.change(user, active=False)
    assert world.departure(staff[3]).hold_id is not None
    world.revoke("user3")
    assert (world.departure(staff[3]).hold_id, world.departure(staff[3]).evidence) == (None, Evidence.REVOKED)
    assert "push:okta" not in world.held()


def test_departures_that_a_push_hastens_count_for_the_guard(world: World, data: Group) -> None:
    staff = [world.user(f"user{number}", data) for number in range(6)]
    for user in staff:
        world.remove(data, user)
        world.clock.advance(300)
    for user in staff:
        world.change(user, active=False)
    assert "push:okta" in world.held()


@pytest.mark.parametrize("how", ["emptied by replacing", "emptied by removing", "deleted"])
def test_a_mapped_group_of_ten_that_goes_in_one_request_is_held(
    world: World, data: Group, web: Group, how: str
) -> None:
    staff = [world.user(f"user{number}", data) for number in range(10)]
    world.add(web, staff[0])
    lose_all(world, data, staff, how)
    kept = {(item.person_id, item.team) for item in world.held()["group:okta"]}
    whole = {(world.person(user).id, "") for user in staff[1:]}
    assert kept == whole | {(world.person(staff[0]).id, "data")}
    for user in staff[1:]:
        has_left(world, user, Evidence.GROUP_LOSS, waits=WAIT)
        assert world.departure(user).hold_id == world.hold("group:okta").id
    assert world.grant(staff[0], "data").hold_id == world.hold("group:okta").id


@pytest.mark.parametrize("how", ["emptied by replacing", "emptied by removing", "deleted"])
def test_nine_people_or_a_group_nobody_mapped_are_no_mass(world: World, data: Group, how: str) -> None:
    world.configure(guard={"max_push_departures": 100})
    lose_all(world, data, [world.user(f"user{number}", data) for number in range(9)], how)
    unmapped = world.group("Canteen")
    lose_all(world, unmapped, [world.user(f"eater{number}", unmapped) for number in range(12)], how)
    assert world.held() == {}


def lose_all(world: World, group: Group, staff: list[User], how: str) -> None:
    if how == "deleted":
        world.delete_group(group)
    elif how == "emptied by removing":
        world.remove(group, *staff)
    else:
        world.replace_group(group, [])


def test_a_held_departure_that_is_approved_may_delete_now(world: World, data: Group) -> None:
    staff = [world.user(f"user{number}", data) for number in range(10)]
    world.delete_group(data)
    world.clock.advance(60)
    world.approve("group:okta")
    assert {world.departure(user).delete_at for user in staff} == {world.clock.now()}
    assert world.held() == {}


def test_who_comes_back_by_another_group_keeps_only_the_lost_team_in_the_hold(
    world: World, data: Group, web: Group
) -> None:
    staff = [world.user(f"user{number}", data) for number in range(10)]
    world.delete_group(data)
    before = world.held()["group:okta"]
    world.add(web, staff[0])
    after = world.held()["group:okta"]
    kept = {(item.person_id, item.team) for item in after}
    back = world.person(staff[0]).id
    assert kept == {(world.person(user).id, "") for user in staff[1:]} | {(back, "data")}
    assert ledger.checksum(after) != ledger.checksum(before)
    assert (world.left(staff[0]), world.teams(staff[0])) == (None, {"web"})
