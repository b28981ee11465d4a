"""Groups: bound by name once and by id from then on; members nobody knows yet; groups in groups."""

from __future__ import annotations

import pytest

from idsync.model import Evidence, Group

from .world import World

DAY = 86400.0


@pytest.fixture
def data(world: World) -> Group:
    return world.group("Data")


# -- bindings -------------------------------------------------------------------------------------------------------


def test_a_group_is_bound_to_what_names_it_exactly(world: World) -> None:
    data, auditors = world.group("Data"), world.group("Auditors")
    for name in (" Data", "Data ", "Dáta", "Datà"):
        world.group(name)
    assert world.bound() == {("data", data.id), ("internal_viewer", auditors.id)}


def test_no_case_is_folded_to_bind(world: World) -> None:
    world.group("data")
    assert world.bound() == set()


def test_a_renamed_group_keeps_its_binding_and_its_people_their_team(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.replace_group(data, display_name="Data (old)")
    world.change(ada, display_name="touched")
    assert (world.bound(), world.teams(ada)) == ({("data", data.id)}, {"data"})


def test_a_group_that_is_renamed_to_a_name_of_the_configuration_gives_its_members_the_team(world: World) -> None:
    group = world.group("Dta")
    ada = world.user("ada", group)
    world.replace_group(group, display_name="Data")
    assert world.bound() == {("data", group.id)}
    assert world.teams(ada) == {"data"}


def test_a_name_of_two_directories_is_a_conflict_and_binds_nothing_more(world: World, data: Group) -> None:
    other = world.group("Data", source="entra")
    bob = world.user("bob", other, source="entra")
    assert (world.bound(), world.teams(bob)) == ({("data", data.id)}, set())
    [conflict] = world.conflicts()
    assert (conflict.kind, conflict.remedy) == ("group_name", f"idsync groups bind data {other.id}")


def test_a_name_that_two_directories_have_already_binds_nothing(world: World) -> None:
    """The configuration names it last: neither of the groups was there first."""
    world.configure(teams=[])
    ours, theirs = world.group("Data"), world.group("Data", source="entra")
    ada, bob = world.user("ada", ours), world.user("bob", theirs, source="entra")
    world.configure()
    assert (world.bound(), world.teams(ada), world.teams(bob)) == (set(), set(), set())
    remedies = {conflict.remedy for conflict in world.conflicts()}
    assert remedies == {f"idsync groups bind data {ours.id}", f"idsync groups bind data {theirs.id}"}
    world.configure(teams=[{"alias": "data", "groups": ["okta/Data"]}])
    assert world.bound() == {("data", ours.id)}, "a source in the words says which is meant"
    assert (world.teams(ada), world.teams(bob)) == ({"data"}, set())


def test_binding_by_hand_settles_such_a_conflict(world: World, data: Group) -> None:
    other = world.group("Data", source="entra")
    bob = world.user("bob", other, source="entra")
    world.write(lambda db: world.control.bind(db, "data", other.id, by="op"))
    assert world.conflicts() == []
    assert world.bound() == {("data", data.id), ("data", other.id)}
    assert world.teams(bob) == {"data"}


def test_two_sources_of_one_directory_may_both_show_a_group(world: World, data: Group) -> None:
    twin = world.group("Data", source="okta-2")
    assert world.bound() == {("data", data.id), ("data", twin.id)}
    assert world.conflicts() == []


def test_a_group_can_be_named_by_source_and_by_id(world: World) -> None:
    world.configure(teams=[{"alias": "data", "groups": ["entra/Data"]}, {"alias": "web", "groups": ["id:e-77"]}])
    world.group("Data")
    data, web = world.group("Data", source="entra"), world.group("Any name")
    assert world.bound() == {("data", data.id)}
    world.delete_group(web)
    world.configure(teams=[{"alias": "web", "groups": [f"id:{data.id}"]}])
    assert ("web", data.id) in world.bound()


def test_a_bound_group_that_is_made_anew_is_an_alarm_and_its_people_are_held(world: World, data: Group) -> None:
    ada, bob = world.user("ada", data), world.user("bob", data, world.group("Web"))
    world.delete_group(data)
    again = world.group("Data", ada, bob)
    assert ("data", again.id) not in world.bound()
    [conflict] = world.conflicts()
    assert (conflict.kind, conflict.remedy) == ("rebind", f"idsync groups bind data {again.id}")
    hold = world.hold("rebind")
    kept = {(item.person_id, item.team) for item in world.held()["rebind"]}
    assert kept >= {(world.person(ada).id, ""), (world.person(bob).id, "data")}
    assert {person for person, _ in kept} == {world.person(ada).id, world.person(bob).id}
    assert (world.departure(ada).evidence, world.departure(ada).hold_id) == (Evidence.GROUP_LOSS, hold.id)
    assert world.grant(bob, "data").hold_id == hold.id


def test_binding_the_new_group_brings_its_people_back_out_of_the_hold(world: World, data: Group) -> None:
    ada, bob = world.user("ada", data), world.user("bob", data, world.group("Web"))
    world.delete_group(data)
    again = world.group("Data", ada, bob)
    world.write(lambda db: world.control.bind(db, "data", again.id, by="op"))
    assert (world.left(ada), world.teams(ada), world.teams(bob)) == (None, {"data"}, {"data", "web"})
    assert world.grant(bob, "data").hold_id is None
    assert "rebind" not in world.held()
    assert world.conflicts() == []


# -- members nobody knows yet ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["e-1", "ada"], ids=["external id", "userName"])
def test_an_unknown_member_is_kept_and_joins_when_the_user_arrives(world: World, data: Group, value: str) -> None:
    world.add(data, value)
    assert world.members(data) == set()
    world.clock.advance(DAY - 1)
    ada = world.user("ada", external="e-1")
    assert (world.members(data), world.teams(ada)) == ({ada.id}, {"data"})


def test_an_unknown_member_is_forgotten_after_a_day(world: World, data: Group) -> None:
    world.add(data, "e-1")
    world.clock.advance(DAY + 1)
    ada = world.user("ada", external="e-1")
    assert (world.members(data), world.teams(ada)) == (set(), set())


def test_an_unknown_member_waits_for_its_own_source_alone(world: World, data: Group) -> None:
    world.add(data, "e-1")
    eve = world.user("ada", source="entra", external="e-1")
    assert (world.members(data), world.teams(eve)) == (set(), set())


@pytest.mark.parametrize("how", ["removed", "replaced", "group deleted"])
def test_an_unknown_member_that_is_taken_out_again_does_not_join(world: World, data: Group, how: str) -> None:
    world.add(data, "e-1")
    if how == "removed":
        world.remove(data, "e-1")
    elif how == "replaced":
        world.replace_group(data, [])
    else:
        world.delete_group(data)
    ada = world.user("ada", external="e-1")
    assert (world.members(data), world.teams(ada)) == (set(), set())


def test_an_unknown_member_in_a_new_group_does_not_keep_the_others_out(world: World) -> None:
    ada = world.user("ada")
    data = world.group("Data", "e-9", ada, "e-9")
    assert (world.members(data), world.teams(ada)) == ({ada.id}, {"data"})


@pytest.mark.parametrize("called", ["id", "external_id", "user_name"])
def test_a_member_of_another_source_is_unknown(world: World, data: Group, called: str) -> None:
    eve = world.user("eve", source="entra", external="e-1")
    world.add(data, getattr(eve, called))
    assert (world.members(data), world.teams(eve)) == (set(), set())
    assert world.waiting(data) == [getattr(eve, called)]


def test_a_member_that_joins_late_raises_the_version_of_the_group(world: World, data: Group) -> None:
    world.add(data, "e-1")
    world.user("ada", external="e-1")
    assert world.version(data) == 2


def test_a_member_that_is_deleted_raises_the_version_of_the_group(world: World, data: Group) -> None:
    ada = world.user("ada")
    before = world.add(data, ada).version
    world.delete(ada)
    assert world.version(data) > before


# -- members by what their source calls them ---------------------------------------------------------------------------


NAMED = pytest.mark.parametrize("value", ["e-1", "ada", "ADA"], ids=["external id", "userName", "other letters"])


@NAMED
def test_a_member_comes_stays_and_goes_by_another_name_than_its_id(world: World, data: Group, value: str) -> None:
    ada = world.user("ada", external="e-1")
    world.add(data, value)
    assert (world.members(data), world.teams(ada), world.waiting(data)) == ({ada.id}, {"data"}, [])
    world.add(data, "later")
    before = world.version(data)
    for listed in ([value], [ada.id], [value, ada.id], ["e-1", "ada"]):
        world.replace_group(data, listed)
    assert (world.members(data), world.version(data), world.left(ada)) == ({ada.id}, before, None)
    world.remove(data, value)
    assert (world.members(data), world.departure(ada).evidence) == (set(), Evidence.GROUP_LOSS)


@NAMED
def test_a_list_takes_out_whom_it_does_not_name_and_nobody_else(world: World, data: Group, value: str) -> None:
    ada, bob = world.user("ada", data, external="e-1"), world.user("bob", data)
    cy = world.user("cy")
    world.replace_group(data, [value, "cy"])
    assert world.members(data) == {ada.id, cy.id}
    assert (world.left(ada), world.teams(cy), world.departure(bob).evidence) == (None, {"data"}, Evidence.GROUP_LOSS)


@pytest.mark.parametrize("value", ["e-1", "ada"], ids=["external id", "userName"])
def test_who_was_named_before_they_were_here_can_be_taken_out_by_that_name(
    world: World, data: Group, value: str
) -> None:
    world.replace_group(data, [value])
    ada = world.user("ada", external="e-1")
    world.replace_group(data, [value])
    assert (world.members(data), world.left(ada)) == ({ada.id}, None)
    world.remove(data, value)
    assert (world.members(data), world.departure(ada).evidence) == (set(), Evidence.GROUP_LOSS)


def test_who_is_taken_out_by_one_name_and_put_in_by_another_stays(world: World, data: Group) -> None:
    ada = world.user("ada", data, external="e-1")
    before = world.version(data)
    world.swap(data, ["e-1"], ["ada", ada])
    assert (world.members(data), world.version(data), world.left(ada)) == ({ada.id}, before, None)


def test_a_name_that_waited_for_one_of_two_is_dropped_with_its_member(world: World, data: Group) -> None:
    """It means somebody again once the other is gone; nothing of it is left to bring them back later."""
    ada, bob = world.user("ada", external="e-1"), world.user("bob", external="e-1")
    world.add(data, "e-1")
    world.delete(bob)
    assert (world.members(data), world.waiting(data)) == (set(), ["e-1"])
    world.add(data, "e-1")
    assert (world.members(data), world.waiting(data)) == ({ada.id}, [])


def test_a_group_is_a_member_by_its_name_as_well(world: World, data: Group) -> None:
    ada = world.user("ada")
    world.add(data, "inner")
    inner = world.group("Inner", "ada")
    assert (world.members(inner), world.members(data), world.teams(ada)) == ({ada.id}, {inner.id}, {"data"})
    world.remove(data, "INNER")
    assert (world.members(data), world.departure(ada).evidence) == (set(), Evidence.GROUP_LOSS)


def test_a_group_does_not_mean_itself_by_its_own_name(world: World) -> None:
    group = world.group("ada", "ada")
    ada = world.user("ada")
    assert world.members(group) == {ada.id}


def test_an_id_goes_before_an_external_id_and_that_before_a_user_name(world: World, data: Group) -> None:
    ada = world.user("ada")
    bob = world.user("bob", external=ada.id)
    world.user("e-1")
    cy = world.user("cy", external="e-1")
    world.add(data, ada.id, "e-1")
    assert world.members(data) == {ada.id, cy.id}
    world.delete(ada)
    world.add(data, ada.id)
    assert world.members(data) == {bob.id, cy.id}


@pytest.mark.parametrize("value", ["e-1", "twin"], ids=["two users", "a user and a group"])
def test_a_name_of_two_is_nobodys_name(world: World, data: Group, value: str) -> None:
    """Neither comes nor goes by it, nor does a third who is called so while it waits."""
    world.user("twin", external="e-1")
    world.group("Twin")
    bob = world.user("bob", external="e-1")
    world.add(data, value, bob)
    world.user("cy", external="e-1")
    assert (world.members(data), world.waiting(data)) == ({bob.id}, [value])
    world.remove(data, value)
    assert (world.members(data), world.waiting(data)) == ({bob.id}, [])


# -- groups in groups -----------------------------------------------------------------------------------------------


def test_whoever_is_in_a_group_of_a_bound_group_has_the_team(world: World, data: Group) -> None:
    ada = world.user("ada")
    inner = world.group("Inner", ada)
    outer = world.group("Outer", inner)
    assert world.teams(ada) == set()
    world.add(data, outer)
    assert world.teams(ada) == {"data"}


@pytest.mark.parametrize("how", ["user out of inner", "inner out of outer", "inner deleted", "outer deleted"])
def test_every_link_of_the_chain_that_breaks_takes_the_team(world: World, data: Group, how: str) -> None:
    ada = world.user("ada")
    inner = world.group("Inner", ada)
    outer = world.group("Outer", inner)
    world.add(data, outer)
    if how == "user out of inner":
        world.remove(inner, ada)
    elif how == "inner out of outer":
        world.remove(outer, inner)
    else:
        world.delete_group(inner if how == "inner deleted" else outer)
    assert world.departure(ada).evidence is Evidence.GROUP_LOSS


def test_a_cycle_of_groups_ends_itself(world: World, data: Group) -> None:
    ada = world.user("ada")
    inner = world.group("Inner", ada, data)
    world.add(data, inner, data)
    assert world.teams(ada) == {"data"}
    world.remove(inner, ada)
    assert world.departure(ada).evidence is Evidence.GROUP_LOSS
    world.add(inner, ada)
    assert (world.left(ada), world.teams(ada)) == (None, {"data"})


def test_a_nested_group_of_ten_that_is_dropped_from_a_mapped_one_is_held(world: World, data: Group) -> None:
    world.configure(guard={"max_push_departures": 100})
    inner = world.group("Inner", *(world.user(f"user{number}") for number in range(12)))
    world.add(data, inner)
    world.remove(data, inner)
    assert "group:okta" in world.held()


def test_a_group_made_anew_does_not_hold_people_of_other_teams(world: World, data: Group) -> None:
    web = world.group("Web")
    ada = world.user("ada", web)
    world.remove(web, ada)
    world.delete_group(data)
    world.group("Data")
    assert world.departure(ada).hold_id is None
